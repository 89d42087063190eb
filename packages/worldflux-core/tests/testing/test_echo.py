"""The echo world keeps the arrival convention that it is there to prove."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from worldflux.core.spec import ActionPart, ActionSpec, ModalitySpec  # noqa: E402
from worldflux.testing.echo import EchoWorld  # noqa: E402

VECTOR, IMAGE, TOKEN = (
    ModalitySpec("vector", (5,)),
    ModalitySpec("image", (3, 8, 12), "uint8"),
    ModalitySpec("tokens", (2,), "int64"),
)
ACTIONS = {
    "continuous": ActionSpec("continuous", 3),
    "one number": ActionSpec("continuous", 1),
    "discrete": ActionSpec("discrete", 4, discrete=True),
    "two classes": ActionSpec("discrete", 2, discrete=True),
    "several parts": ActionSpec("multi", parts=(ActionPart("a", "discrete", 3), ActionPart("b", "continuous", 2))),
}


def world(action: ActionSpec) -> EchoWorld:
    return EchoWorld({"vector": VECTOR, "image": IMAGE, "token": TOKEN}, action)


@pytest.fixture(params=ACTIONS, ids=str)
def echo(request) -> EchoWorld:
    return world(ACTIONS[request.param])


def test_a_row_shows_and_pays_what_was_done_at_the_row_before(echo):
    batch = echo.batch(16, 12, seed=0)
    arrived = ~batch.is_first[:, 1:]
    before = batch.actions[:, :-1]
    assert torch.equal(batch.rewards[:, 1:][arrived], echo.reward(before)[arrived])
    for name, shown in echo.show(before).items():
        assert torch.equal(batch.obs[name][:, 1:][arrived], shown[arrived])


def test_first_rows_pay_nothing_and_look_like_no_other(echo):
    batch = echo.batch(16, 12, seed=0)
    assert not batch.rewards[batch.is_first].any()
    assert batch.is_first[:, 0].any() and not batch.is_first[:, 0].all()
    for name, blank in echo.start(1).items():
        assert bool((batch.obs[name][batch.is_first] == blank).all())
        if name != "token":
            assert not bool((batch.obs[name][~batch.is_first] == blank[0]).flatten(1).all(-1).any())


def test_a_last_row_is_followed_by_a_first_row_and_only_some_are_terminal(echo):
    batch = echo.batch(64, 12, seed=0)
    assert torch.equal(batch.is_first[:, 1:], batch.is_last[:, :-1])
    assert not (batch.is_terminal & ~batch.is_last).any()
    assert batch.is_terminal.any()
    if echo.spec is not ACTIONS["two classes"]:  # too few for one that only stops the watching
        assert (batch.is_last & ~batch.is_terminal).any()


def test_what_ends_an_episode_was_done_before(echo):
    batch = echo.batch(64, 12, seed=0)
    ends, stops = echo.ends(batch.actions[:, :-1])
    terminal = batch.is_terminal[:, 1:]
    assert not (terminal & ~ends).any()
    assert not (batch.is_last[:, 1:] & ~terminal & ~stops).any()


def test_actions_are_flat_and_valid(echo):
    actions = echo.actions(50, generator=torch.Generator().manual_seed(0))
    assert actions.shape == (50, echo.dim)
    for part, place in echo.spec.slices():
        entries = actions[:, place]
        if part.kind == "discrete":
            assert torch.equal(entries.sum(-1), torch.ones(50)) and torch.equal(entries, entries.round())
        else:
            assert entries.abs().max() <= 1 and (entries < 0).any()


def test_a_seed_decides_the_batch_and_nothing_else_is_drawn(echo):
    state = torch.get_rng_state()
    first, second, other = (echo.batch(2, 5, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.actions, second.actions) and torch.equal(first.obs["image"], second.obs["image"])
    assert not torch.equal(first.actions, other.actions)


def test_a_world_without_actions_has_batches_too():
    batch = world(ActionSpec("none")).batch(2, 5, seed=0)
    assert batch.actions.shape == (2, 5, 0)
    assert not batch.is_last.any()
