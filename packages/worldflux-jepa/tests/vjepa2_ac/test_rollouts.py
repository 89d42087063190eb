"""Rollouts with kept keys and values are those that read everything again, whatever the rows remember."""

from __future__ import annotations

import pytest
import torch

from worldflux import State

from .conftest import KINDS, PLAIN, actions, observation


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
