"""Every planner finds plans within 2 % of the least cost there is, in budgets it states, for 1 and for 16 states."""

from __future__ import annotations

import pytest
import torch

from worldflux.planners import (
    CEMPlanner,
    GradientPlanner,
    ICEMPlanner,
    MPPIPlanner,
    Problem,
    RandomShootingPlanner,
    RewardObjective,
)

RETURN = RewardObjective(discount=1.0)
NEAR = 1.02
# 8 steps of 2 numbers; random shooting: 2 steps of 1 number, as much as blind search can do
BUDGETS = {
    "random": RandomShootingPlanner(horizon=2, num_samples=50_000),  # 50,000 imagined plans
    "cem": CEMPlanner(horizon=8, num_samples=500, num_elites=50, iterations=18),  # 9,000
    "icem": ICEMPlanner(horizon=8, num_samples=500, num_elites=50, iterations=18, noise_beta=0.5, decay=1.02),  # 7,592
    "mppi": MPPIPlanner(horizon=8, num_samples=600, num_elites=40, iterations=18, max_std=0.7, min_std=0.01),  # 10,800
    "gradient": GradientPlanner(horizon=8, num_samples=2, iterations=80),  # 162, with gradients
}


def costs(world, planner, num_envs, seed=0):
    x = world.starts(num_envs)
    state = world.encode({"obs": x})
    plan = planner.solve(Problem.of(world, state, RETURN), generator=torch.Generator().manual_seed(seed))
    assert plan.actions.shape == (planner.horizon, num_envs, world.config.action_dim)
    assert plan.actions.abs().max() <= 1
    return x, world.cost(x, plan.actions)


@pytest.mark.parametrize("num_envs", [1, 16])
@pytest.mark.parametrize("name", BUDGETS)
def test_plan_costs_at_most_two_percent_more_than_the_linear_quadratic_optimum(worlds, name, num_envs):
    planner = BUDGETS[name]
    world = worlds.LQR(axes=1 if name == "random" else 2)
    x, cost = costs(world, planner, num_envs)
    least, actions = world.best(x, planner.horizon)
    assert actions.abs().max() < 1  # the bounds do not matter, so the recursion is right
    torch.testing.assert_close(world.cost(x, actions), least)
    assert (cost >= least * 0.999).all()
    assert (cost <= NEAR * least).all(), (cost / least).max()


@pytest.mark.parametrize("num_envs", [1, 16])
@pytest.mark.parametrize("name", BUDGETS)
def test_plan_costs_at_most_two_percent_more_than_the_bounded_point_mass_must(worlds, name, num_envs):
    planner = BUDGETS[name]
    world = worlds.PointMass(axes=1 if name == "random" else 2)
    x, cost = costs(world, planner, num_envs)
    least = world.best(x, planner.horizon)
    assert (cost >= least * 0.999).all()
    assert (cost <= NEAR * least).all(), (cost / least).max()


@pytest.mark.parametrize("num_envs", [1, 16])
@pytest.mark.parametrize(
    "planner",
    [
        RandomShootingPlanner(horizon=4, num_samples=1000),
        CEMPlanner(horizon=6, num_samples=200, num_elites=20, iterations=8),
        ICEMPlanner(horizon=6, num_samples=100, num_elites=10, iterations=8),
        MPPIPlanner(horizon=6, num_samples=200, num_elites=20, iterations=8),
    ],
    ids=lambda planner: type(planner).__name__,
)
def test_plan_of_discrete_actions_is_the_best_of_all_plans(worlds, planner, num_envs):
    world = worlds.SteppingMass()
    x, cost = costs(world, planner, num_envs)
    torch.testing.assert_close(cost, world.brute_force(x, planner.horizon))


@pytest.mark.parametrize("name", ["cem", "icem", "mppi"])
def test_plan_of_a_gear_and_a_throttle_is_near_the_optimum(worlds, name):
    world = worlds.GearedMass()
    x, cost = costs(world, BUDGETS[name], 4)
    assert (cost <= NEAR * world.best(x, 8) + 1e-3).all()


def test_policy_candidates_help_where_sampling_is_scarce(worlds):
    world = worlds.Valued()
    x = world.starts(8)
    problem = Problem.of(world, world.encode({"obs": x}), RETURN)
    scarce = {"horizon": 6, "num_samples": 16, "num_elites": 4, "iterations": 2, "sample_elite": False}
    without = MPPIPlanner(**scarce, num_proposals=0).solve(problem, generator=torch.Generator().manual_seed(0))
    having = MPPIPlanner(**scarce, num_proposals=8).solve(problem, generator=torch.Generator().manual_seed(0))
    assert world.cost(x, having.actions).mean() < 0.9 * world.cost(x, without.actions).mean()
