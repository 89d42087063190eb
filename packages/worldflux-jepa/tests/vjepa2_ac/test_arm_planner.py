"""The planner of the official program: small steps, a grip that is left alone, rows that do not mix."""

from __future__ import annotations

import pytest
import torch

from worldflux import CapabilityError, ConfigurationError
from worldflux.planners import FunctionObjective, GoalObjective, PlannerPolicy, Problem
from worldflux_jepa.vjepa2_ac import ArmPlanner

from .conftest import PLAIN, observation

SMALL = {"num_samples": 32, "num_elites": 6, "iterations": 3}


def to_place(target):
    """Nearness of the last pose to a place."""
    return FunctionObjective(
        lambda model, trajectory: -(trajectory.states[-1]["pose"][:, :3] - target).square().sum(-1)
    )


def test_it_goes_where_it_is_told(build):
    model = build()
    state = model.encode({**observation(model, 2), "pose": torch.zeros(2, 7)})
    target = torch.tensor([0.06, -0.04, 0.02])
    planner = ArmPlanner(num_samples=64, num_elites=8, iterations=8)
    plan = planner.plan(model, state, to_place(target), generator=torch.Generator().manual_seed(0)).tensor
    assert plan.shape == (2, 2, 7)
    assert torch.allclose(plan[..., :3].sum(0), target.expand(2, 3), atol=0.02)
    assert bool((plan[..., :3].abs() <= planner.reach).all()) and not bool(plan[..., 3:6].any())


def test_candidates_keep_within_what_is_allowed():
    planner = ArmPlanner(horizon=3, held=(None, 0.01, None), close_from=2, **SMALL)
    mean, std = planner.begin(torch.zeros(1, 3, 4))
    made = planner.candidates(mean, std, 10 * torch.randn(1, 50, 3, 4, generator=torch.Generator().manual_seed(0)))
    step, grip = made[..., [0, 2]], made[..., 6]
    assert float(step.abs().max()) == pytest.approx(planner.reach)
    assert bool((made[..., 1] == torch.tensor(0.01)).all()) and not bool(made[..., 3:6].any())
    assert float(grip[..., :2].abs().max()) == pytest.approx(0.75) and bool((grip[..., 2] == 1).all())


def test_a_small_change_of_grip_is_none():
    mean = torch.zeros(1, 2, 4)
    mean[0, :, 3] = torch.tensor([0.24, -0.26])
    assert ArmPlanner().action(mean)[0, :, 6].tolist() == pytest.approx([0.0, -0.26])


def test_what_was_is_kept_in_part_and_steps_and_grip_apart():
    planner = ArmPlanner(momentum=0.5, momentum_std=0.0, momentum_grip=0.0, momentum_grip_std=1 - 1e-9, horizon=1)
    elites = torch.zeros(1, 2, 1, 7)
    elites[0, :, 0, 0], elites[0, :, 0, 6] = torch.tensor([0.0, 0.2]), torch.tensor([0.1, 0.3])
    mean, std = planner.refit(torch.ones(1, 1, 4), torch.ones(1, 1, 4), elites)
    assert mean[0, 0, [0, 3]].tolist() == pytest.approx([0.55, 0.2])
    assert std[0, 0, [0, 3]].tolist() == pytest.approx([0.2 / 2**0.5, 1.0])


def test_rows_do_not_mix(build):
    model, planner = build(), ArmPlanner(**SMALL)
    state, goal = model.encode(observation(model, 2)), model.encode(observation(model, 1, seed=3))
    objective = GoalObjective(goal, key="latent")
    problem = Problem.of(model, state, objective)
    noise = planner.draw(problem, torch.Generator().manual_seed(0))
    whole = planner.search(problem, noise, {}).actions
    alone = Problem.of(model, state.map(lambda value: value[:1]), objective)
    noise.samples = [value[:1] for value in noise.samples]
    assert torch.allclose(planner.search(alone, noise, {}).actions, whole[:, :1], atol=1e-5)


def test_it_acts_as_a_policy(build):
    model = build()
    goal = GoalObjective(model.encode(observation(model, 1, seed=3)), key="latent")
    policy = PlannerPolicy(model, ArmPlanner(**SMALL), goal)
    action, _ = policy(
        observation(model, 2), policy.initial(2), is_first=torch.ones(2, dtype=torch.bool), explore=False
    )
    assert action.shape == (2, 7)


def test_models_that_take_other_actions_are_refused(build):
    model = build(PLAIN)
    with pytest.raises(ConfigurationError, match="CEMPlanner"):
        ArmPlanner(**SMALL).plan(model, model.encode(observation(model, 1)), FunctionObjective(lambda m, t: None))


def test_more_elites_than_samples_are_refused():
    with pytest.raises(ConfigurationError, match="num_elites"):
        ArmPlanner(num_samples=4, num_elites=5)


def test_without_a_goal_there_is_no_policy(build):
    with pytest.raises(CapabilityError, match="GoalObjective"):
        build().policy()
