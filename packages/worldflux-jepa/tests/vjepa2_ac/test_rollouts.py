"""Rollouts with kept keys and values are those that read everything again, whatever the rows remember."""

from __future__ import annotations

import pytest
import torch

from worldflux import State

from .conftest import KINDS, PLAIN, SEEN, actions, observation


def both(model, state, plan):
    """The same rollout with kept keys and values, and transition by transition."""
    cached = model.rollout(state, plan, deterministic=True)
    states = [state]
    for action in plan:
        states.append(model.transition(states[-1], action, deterministic=True))
    return cached, states


def expect_equal(cached, states):
    assert len(cached.states) == len(states)
    for got, wanted in zip(cached.states, states):
        assert set(got.tensors) == set(wanted.tensors)
        for name, value in wanted.tensors.items():
            assert torch.allclose(got[name].float(), value.float(), atol=1e-5), name


@pytest.mark.parametrize("shapes", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("horizon", [0, 1, 4, 7])
def test_they_are_equal_whatever_the_horizon_within_the_window_and_beyond(build, shapes, horizon):
    model = build(shapes)
    state = model.encode(observation(model, 3), deterministic=True)
    with torch.no_grad():
        expect_equal(*both(model, state, actions(model, horizon, 3)))


@pytest.mark.parametrize("seen", [1, 3, 6])
def test_they_are_equal_after_frames_that_were_seen(build, seen):
    model = build()
    state = model.encode(observation(model, 2))
    for step in range(seen):
        state = model.update(state, actions(model, 2, seed=step), observation(model, 2, seed=step + 1))
    with torch.no_grad():
        expect_equal(*both(model, state, actions(model, 3, 2, seed=9)))


def test_they_are_equal_where_rows_remember_different_numbers_of_frames(build):
    model = build()
    short = model.encode(observation(model, 1))
    long = model.encode(observation(model, 1, seed=1))
    for step in range(2):
        long = model.update(long, actions(model, 1, seed=step), observation(model, 1, seed=step + 2))
    state = State({name: torch.cat([short[name], long[name]]) for name in short.tensors})
    plan = actions(model, 4, 2)
    with torch.no_grad():
        cached, states = both(model, state, plan)
        expect_equal(cached, states)
        alone = model.rollout(short, plan[:, :1], deterministic=True)
    assert torch.allclose(alone.states[-1]["latent"], cached.states[-1]["latent"][:1], atol=1e-5)


def test_what_is_seen_is_kept_as_far_as_history_says(build):
    model = build(history=2)
    state = model.encode(observation(model, 2))
    for step in range(3):
        state = model.update(state, actions(model, 2, seed=step), observation(model, 2, seed=step + 1))
    assert state["length"].tolist() == [1, 1]
    again = model.update(
        model.encode(observation(model, 2, seed=2)), actions(model, 2, seed=2), observation(model, 2, seed=3)
    )
    plan = actions(model, 2, 2)
    latents = [model.rollout(s, plan, deterministic=True).states[-1]["latent"] for s in (state, again)]
    assert torch.allclose(*latents, atol=1e-5)


def test_each_frame_is_read_once(build):
    model, read = build(), []
    embed = model.dynamics_model.embed
    model.dynamics_model.embed = lambda frames: read.append(frames.latents.shape[1]) or embed(frames)
    model.rollout(model.encode(observation(model, 2)), actions(model, 4, 2))
    assert read == [1, 1, 1, 1]


def test_gradients_of_actions_pass_through(build):
    model = build()
    plan = actions(model, 3, 2).requires_grad_()
    model.rollout(model.encode(observation(model, 2)), plan).states[-1]["latent"].square().mean().backward()
    cached = plan.grad.clone()
    plan.grad = None
    states = [model.encode(observation(model, 2))]
    for action in plan:
        states.append(model.transition(states[-1], action))
    states[-1]["latent"].square().mean().backward()
    assert bool((cached.abs() > 0).any()) and torch.allclose(cached, plan.grad, atol=1e-6)


def seen_by(model, frames, *, seed=0):
    """The state of one row that has seen so many frames."""
    state = model.encode(observation(model, 1, seed=seed))
    for step in range(1, frames):
        now = seed + step
        state = model.update(state, actions(model, 1, seed=now), observation(model, 1, seed=now))
    return state


def together(*states, times=1):
    """States as rows of one, each ``times`` on end: candidates of a plan."""
    return State({n: torch.cat([s[n].repeat_interleave(times, 0) for s in states]) for n in states[0].tensors})


def frames_read(model, state, plan):
    """Of how many frames the predictor's first block reads the tokens."""
    config, read = model.config, list[int]()
    tokens = 1 + len(config.vectors) + config.grid[0] * config.grid[1]
    layer = model.dynamics_model.predictor_blocks[0].attn.qkv
    hook = layer.register_forward_pre_hook(lambda _, given: read.append(given[0].shape[:2].numel()))
    with torch.no_grad():
        model.rollout(state, plan, deterministic=True)
    hook.remove()
    return sum(read) / tokens


@pytest.mark.parametrize("horizon", [1, 4])
def test_what_candidates_of_one_state_have_seen_is_read_once(build, horizon):
    model = build(window=8)
    state, plan = together(seen_by(model, 3), times=5), actions(model, horizon, 5)
    assert frames_read(model, state, plan) == 2 + 5 * horizon
    with torch.no_grad():
        expect_equal(*both(model, state, plan))


def test_what_candidates_of_several_states_have_seen_is_read_once_of_each(build):
    model = build(window=8)
    state = together(seen_by(model, 3), seen_by(model, 3, seed=10), times=3)
    plan = actions(model, 4, 6)
    assert frames_read(model, state, plan) == 2 * 2 + 6 * 4
    with torch.no_grad():
        expect_equal(*both(model, state, plan))


def test_candidates_of_states_that_have_seen_different_numbers_of_frames_share_them_too(build):
    model = build(window=8)
    state = together(seen_by(model, 1), seen_by(model, 3, seed=10), seen_by(model, 2, seed=10), times=2)
    plan = actions(model, 4, 6)
    assert frames_read(model, state, plan) == 3 * 2 + 6 * 4  # a past has room for the longest
    with torch.no_grad():
        expect_equal(*both(model, state, plan))


@pytest.mark.parametrize("name", ["past", "past_actions", "past_pose", "past_extrinsics", "length"])
def test_rows_whose_pasts_differ_in_one_thing_are_told_apart(build, name):
    model = build(SEEN, window=8)
    state = together(seen_by(model, 3), times=3)
    state[name][1] = state[name][1] - 1
    with torch.no_grad():
        expect_equal(*both(model, state, actions(model, 1, 1).expand(3, 3, -1)))


def test_gradients_are_those_of_reading_again_where_candidates_share_a_past(build):
    model = build(window=8)
    state, plan = together(seen_by(model, 3), times=3), actions(model, 3, 3).requires_grad_()
    wanted = [plan, *(p for p in model.dynamics_model.parameters() if p.requires_grad)]
    cached, states = both(model, state, plan)
    found = [torch.autograd.grad(s["latent"][..., 0].mean(), wanted) for s in (cached.states[-1], states[-1])]
    for got, expected in zip(*found):
        assert bool(expected.any()) and torch.allclose(got, expected, atol=1e-5)


def test_gradients_reach_the_past_of_each_row(build):
    model = build(window=8)
    state, plan = together(seen_by(model, 3), times=2), actions(model, 3, 2)
    state.tensors["past"].requires_grad_()
    cached, states = both(model, state, plan)
    got, expected = (
        torch.autograd.grad(s["latent"][..., 0].mean(), state["past"])[0] for s in (cached.states[-1], states[-1])
    )
    assert bool((expected.abs().flatten(1).amax(1) > 0).all()) and torch.allclose(got, expected, atol=1e-6)


class Alone:
    """A dynamics model that has nothing but a transition."""

    def __init__(self, predictor):
        self.transition = predictor.transition


def test_a_dynamics_model_without_a_memory_is_asked_step_by_step(build):
    model = build(PLAIN)
    state, plan = model.encode(observation(model, 2)), actions(model, 3, 2)
    cached = model.rollout(state, plan).states[-1]["latent"]
    model.set_component("dynamics_model", Alone(model.dynamics_model))
    assert torch.allclose(cached, model.rollout(state, plan).states[-1]["latent"], atol=1e-5)
