"""What a predictor looks back on is the same in a rollout, in a clip and row by row."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from worldflux import State
from worldflux_jepa.jepa.window import followed, fresh, read_clip, states_of, window_of

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def obs_of(batch, row: int) -> dict[str, Tensor]:
    return {name: value[:, row] for name, value in batch.obs.items()}


def followed_by_hand(model, batch, row: int) -> State:
    """The state of a row, updated row by row from the first one of its episode on."""
    state = model.encode(obs_of(batch, 0))
    for number in range(1, row + 1):
        state = model.update(state, batch.actions[:, number - 1], obs_of(batch, number))
    return state


def test_a_clip_is_predicted_as_states_are(build, kind, noise_batch):
    model = build(**kind, rollout_steps=2)
    batch = noise_batch(model)
    with torch.no_grad():
        latents = model.latent(batch.obs)
        once, twice = model.rolled_out(latents, batch.actions, torch.zeros(4, 6, dtype=torch.int64))
        for row in range(5):
            state = model.transition(followed_by_hand(model, batch, row), batch.actions[:, row])
            torch.testing.assert_close(once[:, row], state["latent"], **CLOSE)
            if row < 4:
                state = model.transition(state, batch.actions[:, row + 1])
                torch.testing.assert_close(twice[:, row], state["latent"], **CLOSE)


def test_one_pass_over_a_clip_predicts_what_its_windows_do(build, noise_batch):
    for options in ({"predictor": "adaln"}, {"predictor": "concat"}):
        model = build(**options, history=4, heads=2, head_dim=8, depth=2, mlp_units=32, rollout_steps=1, head_units=8)
        batch = noise_batch(model, rows=5)
        begun = torch.tensor([[0, 0, 0, 0, 0], [0, 0, 2, 2, 2], [0, 1, 1, 1, 4], [0, 0, 0, 3, 3]])
        model.train()  # batch norms of heads, too
        latents = model.latent(batch.obs).detach()
        (at_once,) = model.rolled_out(latents, batch.actions, begun)
        model.dynamics_model.sequence = None
        (by_windows,) = model.rolled_out(latents, batch.actions, begun)
        torch.testing.assert_close(at_once, by_windows, **CLOSE)


def test_an_episode_starts_with_an_empty_window(build, kind, noise_batch):
    model = build(**kind)
    first = torch.zeros(4, 6, dtype=torch.bool)
    first[:, 3] = True
    batch = noise_batch(model, is_first=first)
    other = noise_batch(model, seed=1, is_first=first)
    spliced = replace(
        batch,
        obs={name: torch.cat([other.obs[name][:, :3], value[:, 3:]], 1) for name, value in batch.obs.items()},
        actions=torch.cat([other.actions[:, :3], batch.actions[:, 3:]], 1),
    )
    with torch.no_grad():
        found = []
        for given in (batch, spliced):
            clip = read_clip(given, steps=1, rows=2)
            found.append(model.rolled_out(model.latent(given.obs), given.actions, clip.begun)[0])
    torch.testing.assert_close(found[0][:, 3:], found[1][:, 3:], **CLOSE)
    assert not torch.allclose(found[0][:, :3], found[1][:, :3], **CLOSE)


def test_steps_into_another_episode_do_not_count(build, noise_batch):
    first = torch.zeros(4, 6, dtype=torch.bool)
    first[0, 2] = True
    clip = read_clip(noise_batch(build(), is_first=first), steps=3, rows=4)
    assert [valid[0].tolist() for valid in clip.valid] == [[1, 0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1]]
    assert all(bool(valid[1:].all()) for valid in clip.valid)


def test_a_state_holds_the_last_rows_oldest_first():
    state = fresh(torch.zeros(2, 3), history=3, action_dim=1)
    for number in range(1, 5):
        state = followed(state, torch.full((2, 1), float(number - 1)), torch.full((2, 3), float(number)))
    assert state["past"][0, :, 0].tolist() == [2, 3]
    assert state["past_actions"][0, :, 0].tolist() == [2, 3]
    assert state["latent"][0, 0] == 4 and state["length"].tolist() == [2, 2]


def test_the_states_of_a_clip_are_those_that_follow_each_other():
    latents, actions = torch.arange(10.0).reshape(1, 5, 2), torch.arange(5.0).reshape(1, 5, 1)
    states = states_of(latents, actions, torch.zeros(1, 5, dtype=torch.int64), history=3)
    state = fresh(latents[:, 0], history=3, action_dim=1)
    for row in range(5):
        for name, value in state.tensors.items():
            assert torch.equal(states[name][row : row + 1], value), (row, name)
        if row < 4:
            state = followed(state, actions[:, row], latents[:, row + 1])


def test_rows_before_the_first_are_looked_at_by_nobody():
    state = fresh(torch.zeros(1, 3), history=4, action_dim=1)
    window = window_of(followed(state, torch.zeros(1, 1), torch.zeros(1, 3)), torch.zeros(1, 1), tokens=1)
    assert window.seen[0, -1].tolist() == [False, False, True, True]
    assert window.place[0].tolist() == [0, 0, 0, 1]


def test_what_is_seen_replaces_what_was_predicted(build, kind, noise_batch):
    model = build(**kind)
    batch = noise_batch(model)
    with torch.no_grad():
        state = model.encode(obs_of(batch, 0))
        state = model.update(model.transition(state, batch.actions[:, 0]), batch.actions[:, 1], obs_of(batch, 2))
        torch.testing.assert_close(state["latent"], model.encode(obs_of(batch, 2))["latent"], **CLOSE)
