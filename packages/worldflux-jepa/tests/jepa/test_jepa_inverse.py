"""Amortised planning: a head learns which actions lead to a latent, and nothing else learns from it."""

from __future__ import annotations

import math

import pytest
import torch

import worldflux
from worldflux import Batch, CapabilityError, ConfigurationError, State
from worldflux.planners import CEMPlanner, GoalObjective, InverseDynamicsPlanner, OffersActions, PlannerPolicy
from worldflux.training.config import TrainingConfig
from worldflux.training.optim import build_optimizer, clip_gradients
from worldflux_jepa.jepa.config import JEPAConfig
from worldflux_jepa.jepa.inverse import AmortisedInverse

WITH = {"amortised": True, "amortised_steps": 3, "amortised_units": 64}


def clips(size=8, rows=5, seed=0, **how):
    generator = torch.Generator().manual_seed(seed)
    actions = torch.rand(size, rows, 2, generator=generator) * 2 - 1
    moved = torch.cat([torch.zeros(size, 1, 2), 0.3 * actions[:, :-1].cumsum(1)], 1)
    return Batch(obs={"obs": torch.cat([moved, torch.ones(size, rows, 3)], -1)}, actions=actions, **how)


def test_the_head_learns_from_latents_that_do_not_learn_from_it(build):
    model = build(**WITH).train()
    term = model.loss(clips()).components["amortised"]
    assert term > 0
    seen = torch.randn(4, 5, 1, 16, requires_grad=True)
    valid = [torch.ones(4, 4), torch.ones(4, 3), torch.ones(4, 2)]
    model.amortised.loss(seen, torch.randn(4, 5, 2), valid).backward()
    assert seen.grad is None and all(value.grad is not None for value in model.amortised.parameters())


def test_everything_else_learns_as_without_it(build):
    """Gradients are clipped apart: those of the head take nothing from the others."""
    after = []
    for options in ({}, WITH):
        model = build(**options).train()
        if not after:
            first = {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(first, strict=False)
        optimizer = build_optimizer(model, TrainingConfig(learning_rate=1e-2))
        for step in range(3):
            optimizer.zero_grad()
            model.loss(clips(seed=step)).loss.backward()
            clip_gradients(optimizer, 1e-3)
            optimizer.step()
        after.append(model.state_dict())
    for name, value in after[0].items():
        torch.testing.assert_close(after[1][name], value, rtol=0, atol=0)


def test_the_actions_between_latents_are_learned(build):
    config = JEPAConfig.from_size("ci", obs_shape=(2,), latent_dim=2, action_dim=2, **WITH)
    torch.manual_seed(0)
    head = AmortisedInverse(config)
    for layer in head.net:
        if hasattr(layer, "reset_parameters"):
            torch.nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5))
            torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.Adam(head.parameters(), 3e-3)
    valid = [torch.ones(64, 4 - k) for k in range(3)]
    for step in range(300):
        batch = clips(64, seed=step)
        loss = head.loss(batch.obs["obs"][..., None, :2], batch.actions, valid)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    here, there = torch.zeros(1, 2), torch.tensor([[0.15, -0.2]])
    torch.testing.assert_close(head(here, there, steps=1)[0, 0], there[0] / 0.3, atol=0.1, rtol=0)
    two = head(here, there, steps=2)[0]  # of two unknown actions each is half the way, on average
    torch.testing.assert_close(two.sum(0), there[0] / 0.3, atol=0.15, rtol=0)


def test_pairs_across_the_end_of_an_episode_teach_nothing(build):
    model, first = build(**WITH), torch.zeros(8, 5, dtype=torch.bool)
    first[:, 2] = True

    def taught(batch):
        return model.loss(batch).components["amortised"]

    batch = clips(is_first=first)
    other = Batch(obs=batch.obs, actions=batch.actions.clone(), is_first=first)
    other.actions[:, 1] = 9.0  # done at an episode's last row
    torch.testing.assert_close(taught(other), taught(batch))


def test_clips_are_as_long_as_the_head_looks(build):
    assert (build().context_rows, build(**WITH, rollout_steps=1).context_rows) == (2, 2)
    assert build(amortised=True, amortised_steps=8).context_rows == 7
    with pytest.raises(worldflux.ValidationError, match="this model needs 9"):
        build(amortised=True, amortised_steps=8).loss(clips(rows=5))


def test_a_plan_is_what_the_model_offers(build):
    model = build(**WITH)
    state, goal = model.encode(torch.randn(4, 5)), model.encode(torch.randn(1, 5))
    assert isinstance(model, OffersActions)
    plan = InverseDynamicsPlanner(horizon=3).plan(model, state, GoalObjective(goal, key="latent"))
    with torch.no_grad():
        everywhere = State({"latent": goal["latent"].expand(4, -1)})
        torch.testing.assert_close(plan.tensor, model.actions_to_goal(state, everywhere, 3).clamp(-1, 1))
    policy = PlannerPolicy(model, InverseDynamicsPlanner(horizon=3), GoalObjective(goal, key="latent"), execute=2)
    action, _ = policy(torch.randn(4, 5), policy.initial(4), is_first=torch.ones(4, dtype=torch.bool), explore=False)
    assert action.shape == (4, 2)


def test_noise_is_drawn_to_explore_alone(build, monkeypatch):
    model, asked = build(**WITH), []
    planner, draw = InverseDynamicsPlanner(horizon=3), InverseDynamicsPlanner.draw
    monkeypatch.setattr(InverseDynamicsPlanner, "draw", lambda *given: asked.append(given) or draw(*given))
    policy = PlannerPolicy(model, planner, GoalObjective(model.encode(torch.randn(1, 5)), key="latent"))
    told = {"obs": torch.randn(4, 5), "carry": policy.initial(4), "is_first": torch.ones(4, dtype=torch.bool)}
    plain, _ = policy(**told, explore=False)
    assert not asked
    explored, _ = policy(**told, explore=True)
    assert len(asked) == 1 and not torch.equal(explored, plain)


def test_a_model_that_has_not_learned_it_says_so(build):
    model = build()
    goal = GoalObjective(model.encode(torch.randn(1, 5)), key="latent")
    with pytest.raises(CapabilityError, match=r"has not learned which actions lead to a goal.*amortised=True"):
        InverseDynamicsPlanner(horizon=2).plan(model, model.encode(torch.randn(1, 5)), goal)
    with pytest.raises(ConfigurationError, match=r"horizon is 5, but this JEPA gives at most 3"):
        InverseDynamicsPlanner(horizon=5).plan(build(**WITH), build(**WITH).encode(torch.randn(1, 5)), goal)


def test_the_head_is_saved_with_the_model(build, tmp_path):
    model = build(**WITH)
    model.save_pretrained(tmp_path)
    loaded = worldflux.create_world_model(str(tmp_path))
    state, goal = model.encode(torch.randn(2, 5)), model.encode(torch.randn(2, 5))
    torch.testing.assert_close(loaded.actions_to_goal(state, goal, 2), model.actions_to_goal(state, goal, 2))


def test_several_latents_a_row_are_read_together(build):
    options = {
        "observation_modalities": {"features": {"shape": (4, 6)}},
        "encoder": "features",
        "predictor": "concat",
        "history": 2,
        "heads": 2,
        "head_dim": 8,
        "depth": 1,
        "mlp_units": 16,
    }
    model = build(**options, **WITH)
    state = model.encode({"features": torch.randn(3, 4, 6)})
    assert model.actions_to_goal(state, state, 2).shape == (2, 3, 2)


@pytest.mark.timing
def test_a_plan_is_cheaper_than_a_search(build):
    import time

    model = build(**WITH)
    state, goal = model.encode(torch.randn(1, 5)), GoalObjective(model.encode(torch.randn(1, 5)), key="latent")
    taken = {}
    for planner in (InverseDynamicsPlanner(horizon=3), CEMPlanner(horizon=3, num_samples=300, num_elites=30)):
        planner.plan(model, state, goal)
        began = time.perf_counter()
        for _ in range(3):
            planner.plan(model, state, goal)
        taken[type(planner)] = time.perf_counter() - began
    assert taken[InverseDynamicsPlanner] < taken[CEMPlanner] / 5
