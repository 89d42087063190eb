"""Planning towards goals is judged beside chance, on the same episodes, with a card that says how."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.envs import GoalEnv, make_env
from worldflux.evals import evaluate_goals, goals_together
from worldflux.evals.goals.rate import wilson
from worldflux.planners import CEMPlanner, StateGoal

PLANNER = CEMPlanner(horizon=6, num_samples=60, num_elites=8, iterations=4)


def point_goal(episodes=20, **options):
    return make_env("study:point-goal", num_envs=episodes, seed=0, env_options={"obs": "state", **options})


@pytest.fixture(scope="module")
def found(oracle):
    """What is measured of a model that knows the true state."""
    return evaluate_goals(oracle.Oracle(), point_goal(50), planner=PLANNER, execute=2, energy="l2", seed=3)


def test_who_knows_the_way_reaches_the_goals_and_chance_stands_beside(found):
    told = found.to_dict()
    assert found.success >= 0.95 and told["success"]["low"] > 0.85
    assert found.floor == max(told["floor"]["uniform"]["value"], told["floor"]["persistent"]["value"]) < 0.5
    assert told["floor"][told["floor"]["policy"]]["value"] == found.floor
    assert told["in_words"] == []


def test_the_energy_of_who_knows_the_way_ranks_states_and_plans(found):
    told = found.to_dict()
    assert told["energy_distance"]["rank_correlation"]["value"] > 0.99
    assert told["energy_distance"]["states"] > 200
    assert told["oracle_rank"]["value"] < 0.05
    assert 0 < told["median_steps"] <= 20 and told["replan_ms"] > 0


def test_the_card_says_in_what_and_how(found):
    card = json.loads(json.dumps(found.to_dict()))["card"]
    assert card["environment"]["name"] == "study:point-goal" and card["environment"]["options"]["limit"] == 50
    assert card["environment"]["version"].startswith("worldflux-core ")
    assert (card["starts"], card["goals"]) == ("drawn by the environment", "place")
    assert (card["budget"], card["frame_skip"], card["execute"], card["episodes"], card["seed"]) == (50, 1, 2, 50, 3)
    assert card["planner"]["name"] == "cem" and card["planner"]["num_samples"] == 60
    assert card["objective"] == {"kind": "latent", "key": "latent", "energy": "l2", "over": "last"}


def test_a_model_that_knows_nothing_is_said_to_do_no_better_than_chance(oracle):
    result = evaluate_goals(oracle.Oracle(knows=0.0), point_goal(30), planner=PLANNER, seed=3)
    told = result.to_dict()
    assert result.success < 0.5
    assert "energy_distance" not in told  # an energy that is the same everywhere ranks nothing
    assert any("chance" in sentence for sentence in told["in_words"])


def test_every_policy_meets_the_same_starts_and_goals(oracle):
    class Watched(type(point_goal())):
        def reset(self, *args, **how):
            step = super().reset(*args, **how)
            self.__dict__.setdefault("met", []).append((self.states(), self.goals().state))
            return step

    env = Watched("study:point-goal", num_envs=4, options={"obs": "state", "vary": "all"})
    evaluate_goals(oracle.Oracle(), env, planner=PLANNER, budget=4)
    assert len(env.met) >= 4
    for starts, goals in env.met[1:]:
        np.testing.assert_array_equal(starts, env.met[0][0])
        np.testing.assert_array_equal(goals, env.met[0][1])


def test_episodes_that_begin_at_their_goal_are_left_out_of_the_rate(oracle):
    starts = np.full((6, 2), 0.3)
    goals = np.array([[0.3, 0.3], [0.31, 0.3], *[[0.7, 0.7]] * 4])
    result = evaluate_goals(oracle.Oracle(), point_goal(6), planner=PLANNER, starts=starts, goals=goals, energy="l2")
    told = result.to_dict()
    assert told["success"]["episodes"] == 4 == told["success"]["solved"]
    assert told["floor"]["episodes"] == 4
    assert told["solved_at_start"] == {"share": 2 / 6, "left_out": 2, "drawn_again": 0}
    assert (told["card"]["starts"], told["card"]["goals"]) == ("given", "given")
    assert "2 episodes began at their goal and are left out." in told["in_words"]


def test_what_an_environment_draws_again_counts_in_the_share_solved_at_the_start(oracle):
    told = evaluate_goals(oracle.Oracle(), point_goal(40, radius=0.3), planner=PLANNER, budget=1).to_dict()
    start = told["solved_at_start"]
    assert start["drawn_again"] > 0 and start["left_out"] == 0
    assert start["share"] == start["drawn_again"] / (40 + start["drawn_again"])


def test_nothing_is_measured_where_every_episode_begins_at_its_goal(oracle):
    here = np.full((3, 2), 0.5)
    told = evaluate_goals(oracle.Oracle(), point_goal(3), planner=PLANNER, starts=here, goals=here).to_dict()
    assert told["success"]["episodes"] == 0
    assert told["in_words"] == [
        "Every episode began at its goal: nothing was measured. Take other starts, or goals further away."
    ]


def test_an_action_of_a_model_with_a_frame_skip_is_so_many_steps(oracle):
    far = {"starts": np.full((5, 2), 0.2), "goals": np.full((5, 2), 0.8)}
    few = CEMPlanner(horizon=4, num_samples=100, num_elites=10, iterations=5)
    one = evaluate_goals(oracle.Oracle(), point_goal(5), planner=PLANNER, energy="l2", over="sum", **far)
    three = evaluate_goals(oracle.Oracle(frame_skip=3), point_goal(5), planner=few, over="sum", frame_skip=3, **far)
    least = np.ceil((0.6 - 4.5 / 65 / np.sqrt(2)) / oracle.SPEED)  # steps, at full speed along both axes
    assert one.success == three.success == 1
    assert (one.steps >= least).all() and (three.steps >= least).all()
    assert (three.steps <= least + 4).all()
    assert three.card["frame_skip"] == 3 and three.card["budget"] == 48


def test_a_goal_must_be_reached_within_the_budget(oracle):
    far = {"starts": np.full((5, 2), 0.2), "goals": np.full((5, 2), 0.8)}
    result = evaluate_goals(oracle.Oracle(), point_goal(5), planner=PLANNER, energy="l2", budget=5, **far)
    assert result.success == 0 and (result.steps == 5).all()
    assert "median_steps" not in result.to_dict()


def test_another_aim_takes_the_goals_as_states(oracle):
    import torch

    def aim(model, goals):
        return StateGoal(torch.as_tensor(goals.state, dtype=torch.float32), lambda state: state["latent"])

    result = evaluate_goals(oracle.Oracle(), point_goal(), planner=PLANNER, aim=aim)
    assert result.success >= 0.95
    assert result.card["objective"] == {"kind": "state", "over": "last"}


def test_rates_of_one_card_are_put_together_and_of_two_only_if_that_is_said(oracle):
    model = oracle.Oracle()
    one, other = (evaluate_goals(model, point_goal(4), planner=PLANNER, seed=s, budget=6).to_dict() for s in (0, 1))
    together = goals_together([one, other])
    assert together["success"]["episodes"] == 8 and "cards_differ_in" not in together
    assert together["success"]["solved"] == one["success"]["solved"] + other["success"]["solved"]
    longer = evaluate_goals(model, point_goal(4), planner=PLANNER, budget=7).to_dict()
    with pytest.raises(ConfigurationError, match=r"different cards do not compare, these differ in \['budget'\].*6.*7"):
        goals_together([one, json.loads(json.dumps(longer))])
    assert goals_together([one, longer], differing=["budget"])["cards_differ_in"] == ["budget"]


@pytest.mark.parametrize(("solved", "tries", "low", "high"), [(0, 10, 0.0, 0.2775), (45, 50, 0.7864, 0.9565)])
def test_the_interval_of_a_rate_is_wilsons(solved, tries, low, high):
    number = wilson(solved, tries)
    assert number.value == solved / tries
    assert (number.low, number.high) == pytest.approx((low, high), abs=1e-4)


def test_a_gymnasium_environment_with_goals_is_judged_as_any_other(oracle):
    from worldflux.envs.study.gym_env import StudyGymEnv

    far = {"starts": np.full((4, 2), 0.3), "goals": np.full((4, 2), 0.7)}
    make = lambda: gym.wrappers.TimeLimit(StudyGymEnv("study:point-goal", options={"obs": "state"}), 40)
    how = {"planner": PLANNER, "energy": "l2", **far}
    result = evaluate_goals(oracle.Oracle(), make_env(make, num_envs=4), **how)
    same = evaluate_goals(oracle.Oracle(), point_goal(4), budget=40, **how)
    np.testing.assert_array_equal(result.steps, same.steps)
    assert result.success == 1 and result.card["budget"] == 40
    assert result.card["environment"]["name"] == "study:point-goal"
    assert "oracle_rank" not in result.to_dict()  # it has no oracle


def test_an_environment_that_tells_no_distance_gives_no_rank_correlation(oracle):
    class Silent(type(point_goal())):
        def distance(self):
            return np.full(self.num_envs, np.nan)

    env = Silent("study:point-goal", num_envs=4, options={"obs": "state"})
    assert "energy_distance" not in evaluate_goals(oracle.Oracle(), env, planner=PLANNER, budget=5).to_dict()


def test_an_environment_without_goals_is_refused(oracle):
    env = make_env("CartPole-v1")
    assert not isinstance(env, GoalEnv)
    with pytest.raises(ConfigurationError, match=r"SyncVectorEnv has no goals.*GoalEnv, such as study:two-room"):
        evaluate_goals(oracle.Oracle(), env, planner=PLANNER)
    env.close()


def test_what_does_not_fit_the_model_is_named(oracle):
    picture = make_env("study:point-goal", num_envs=2)
    with pytest.raises(ConfigurationError, match=r"the model observes 'state' \[2\], the environment shows .*image"):
        evaluate_goals(oracle.Oracle(), picture, planner=PLANNER)
    with pytest.raises(ConfigurationError, match="the actions of the environment"):
        evaluate_goals(oracle.Oracle(), point_goal(2), planner=PLANNER, frame_skip=2)
    with pytest.raises(ConfigurationError, match="5 episodes are asked for in 2 environments"):
        evaluate_goals(oracle.Oracle(), point_goal(2), planner=PLANNER, episodes=5)
    with pytest.raises(ConfigurationError, match="budget is 0"):
        evaluate_goals(oracle.Oracle(), point_goal(2), planner=PLANNER, budget=0)
