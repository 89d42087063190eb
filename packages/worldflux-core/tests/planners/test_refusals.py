"""A planner that cannot work says so when it is made or given its problem, and what to do."""

from __future__ import annotations

import pytest
import torch

from worldflux.core.errors import ConfigurationError
from worldflux.planners import (
    CEMPlanner,
    GoalObjective,
    GradientPlanner,
    ICEMPlanner,
    MPPIPlanner,
    PlannerPolicy,
    RandomShootingPlanner,
    make_planner,
)


@pytest.mark.parametrize(
    ("planner", "options", "message"),
    [
        (CEMPlanner, {"horizon": 0}, "horizon is 0, expected a whole number of at least 1"),
        (MPPIPlanner, {"horizon": True}, "horizon is True, expected a whole number of at least 1"),
        (RandomShootingPlanner, {"horizon": 2.0}, "horizon is 2.0, expected a whole number of at least 1"),
        (RandomShootingPlanner, {"num_samples": 0}, "num_samples is 0, expected a whole number of at least 1"),
        (CEMPlanner, {"iterations": 0}, "iterations is 0, expected a whole number of at least 1"),
        (CEMPlanner, {"num_elites": 200, "num_samples": 100}, "num_elites=200 of num_samples=100"),
        (CEMPlanner, {"momentum": 1.0}, "momentum is 1.0, expected a finite number of at least 0 and below 1"),
        (CEMPlanner, {"init_std": 1e-4}, "need min_std <= init_std"),
        (CEMPlanner, {"init_std": 0.0}, "init_std is 0.0, expected a finite number above 0"),
        (ICEMPlanner, {"num_elites": 30}, "at least twice as many samples as elites"),
        (ICEMPlanner, {"decay": 0.5}, "decay is 0.5, expected a finite number of at least 1"),
        (ICEMPlanner, {"reuse": 1.5}, "reuse is 1.5, expected a finite number of at least 0 and at most 1"),
        (ICEMPlanner, {"noise_beta": -1.0}, "noise_beta is -1.0, expected a finite number of at least 0"),
        (MPPIPlanner, {"num_elites": 600}, "num_elites=600 of num_samples=512"),
        (MPPIPlanner, {"num_proposals": 512}, "leave candidates to sample"),
        (MPPIPlanner, {"num_proposals": -1}, "num_proposals is -1, expected a whole number of at least 0 or None"),
        (MPPIPlanner, {"min_std": 3.0}, "min_std <= max_std"),
        (MPPIPlanner, {"temperature": -1.0}, "temperature is -1.0, expected a finite number of at least 0"),
        (GradientPlanner, {"learning_rate": 0.0}, "learning_rate is 0.0, expected a finite number above 0"),
        (CEMPlanner, {"exploration": 2.0}, "exploration is 2.0, expected a finite number of at least 0 and at most 1"),
        (CEMPlanner, {"exploration": None}, "exploration is None, expected a finite number"),
        (CEMPlanner, {"init_std": "a"}, "init_std is 'a', expected a finite number"),
        (CEMPlanner, {"warm_start": "no"}, "warm_start is 'no', expected True or False"),
        (GradientPlanner, {"mixed_precision": 1}, "mixed_precision is 1, expected True or False"),
    ],
)
def test_inconsistent_options_are_refused_when_the_planner_is_made(planner, options, message):
    with pytest.raises(ConfigurationError, match=message):
        planner(**options)


def test_unknown_planners_and_options_name_the_nearest():
    with pytest.raises(ConfigurationError, match="Did you mean 'mppi'"):
        make_planner("mpi")
    with pytest.raises(ConfigurationError, match="Did you mean 'num_samples'"):
        make_planner("cem", n_samples=3)


def test_what_is_no_state_or_no_planner_is_refused_with_what_is(worlds):
    model = worlds.PointMass()
    with pytest.raises(ConfigurationError, match=r"a State, got a Tensor: use model\.encode"):
        CEMPlanner().plan(model, torch.zeros(3, 2))
    for planner in ("cem", CEMPlanner):
        with pytest.raises(ConfigurationError, match=r"the planner must be made, such as CEMPlanner\(horizon=12\)"):
            PlannerPolicy(model, planner)


def test_a_model_without_reward_needs_an_objective(worlds):
    class Unpaid(worlds.PointMass):
        capabilities = frozenset()

    model = Unpaid()
    with pytest.raises(ConfigurationError, match=r"predicts no reward.*GoalObjective\(goal\) or a function"):
        PlannerPolicy(model, CEMPlanner())
    with pytest.raises(ConfigurationError, match="predicts no reward"):
        CEMPlanner().plan(model, model.initial_state(1))
    PlannerPolicy(model, CEMPlanner(), lambda model, imagined: imagined.states[-1]["x"].sum(-1))


@pytest.mark.parametrize("world", ["SteppingMass", "GearedMass"])
def test_gradients_of_discrete_actions_are_refused(worlds, world):
    with pytest.raises(ConfigurationError, match="needs continuous actions.*use CEMPlanner"):
        PlannerPolicy(getattr(worlds, world)(), GradientPlanner())


def test_gradients_that_do_not_exist_are_refused(worlds):
    model = worlds.PointMass()
    with pytest.raises(ConfigurationError, match="no gradient in the actions"):
        GradientPlanner().plan(model, model.initial_state(1), lambda model, imagined: imagined.rewards.sum(0).detach())


def test_proposals_of_a_model_that_has_none_are_refused(worlds):
    with pytest.raises(ConfigurationError, match="PointMass offers no proposals"):
        PlannerPolicy(worlds.PointMass(), MPPIPlanner(num_proposals=24))


def test_actions_that_are_neither_numbers_nor_classes_are_refused(worlds):
    for kind in ("none", "token"):
        model = worlds.PointMass(2, action_dim=2, action_type=kind)
        with pytest.raises(ConfigurationError, match="continuous, discrete or multi actions"):
            PlannerPolicy(model, CEMPlanner())


def test_options_are_fixed_once_made():
    with pytest.raises(AttributeError):
        CEMPlanner().horizon = 3


def test_global_randomness_is_not_read_by_making_a_policy(worlds):
    before = torch.get_rng_state()
    PlannerPolicy(worlds.Valued(), MPPIPlanner()).initial(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_is_asked_for_actions_only_if_it_offers_them(worlds):
    model = worlds.PointMass()
    goal = GoalObjective(model.encode({"obs": torch.zeros(1, 2)}), key="x")
    with pytest.raises(ConfigurationError, match=r"PointMass does not offer that .*OffersActions.*CEMPlanner"):
        PlannerPolicy(model, make_planner("inverse"), goal)


def test_actions_are_asked_for_only_towards_a_goal(worlds):
    class Offering(worlds.PointMass):
        def actions_to_goal(self, state, goal, horizon):
            return (goal["x"] - state["x"]).expand(horizon, -1, -1)

    model = Offering()
    with pytest.raises(ConfigurationError, match="plans towards a goal, got a RewardObjective"):
        PlannerPolicy(model, make_planner("inverse"))
    goal = GoalObjective(model.encode({"obs": torch.tensor([[0.5, -3.0]])}), key="x")
    plan = make_planner("inverse", horizon=4).plan(model, model.encode({"obs": torch.zeros(2, 2)}), goal)
    torch.testing.assert_close(plan.tensor, torch.tensor([0.5, -1.0]).expand(4, 2, 2))
    assert plan.extras["wf.planner.score"].isnan().all()
