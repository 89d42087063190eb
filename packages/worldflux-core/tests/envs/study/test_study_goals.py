"""Goals: where they are drawn, that something is to be done, and what is told of them."""

from __future__ import annotations

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.envs import make_env

NAMES = ("study:point-goal", "study:two-room", "study:push-block")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_solved_at_the_start_and_what_was_is_counted(name):
    env = make_env(name, num_envs=200, env_options={"obs": "state", "radius": 0.2})
    env.reset(0)
    assert not env.success().any() and env.solved_at_start > 0
    assert env.task.valid(env.states(), env.looks).all() and env.task.valid(env.goal_states(), env.looks).all()


def test_goals_can_be_in_the_other_room():
    env = make_env("study:two-room", num_envs=100, env_options={"obs": "state", "goal": "other_room", "wall": "random"})
    env.reset(0)
    states, goals = env.states(), env.goal_states()
    assert ((states[:, 0] < states[:, 2]) != (goals[:, 0] < states[:, 2])).all()
    assert np.array_equal(states[:, 2:], goals[:, 2:])


@pytest.mark.parametrize("name", NAMES)
def test_a_goal_by_offset_is_where_the_oracle_gets_in_so_many_steps(name):
    env = make_env(name, num_envs=30, env_options={"obs": "state", "goal": "offset", "goal_offset": 9})
    env.reset(0)
    reached = np.zeros(30, bool)
    for _ in range(40 if name == "study:push-block" else 9):
        env.step(env.oracle())
        reached |= env.success()
    assert reached.all()


@pytest.mark.parametrize("name", NAMES)
def test_the_goal_is_seen_as_its_state_would_be(name):
    env = make_env(name, num_envs=3, env_options={"obs": "both"})
    env.reset(0)
    goals = env.goals()
    there = env.reset([1, 2, 3], starts=goals.state, goals=goals.state)
    assert all(np.array_equal(there.obs[key], goals.obs[key]) for key in ("image", "state"))
    assert env.success().all() and np.allclose(env.distance(), 0)


@pytest.mark.parametrize("name", NAMES)
def test_starts_and_goals_that_are_given_are_taken(name):
    vary = ["wall", "door", "speed"] if name == "study:two-room" else ["speed"]
    env = make_env(name, num_envs=4, env_options={"obs": "state", "vary": vary})
    env.reset(0)
    starts, goals = env.states(), env.goal_states()
    for given in ({"starts": starts}, {"goals": goals}, {"starts": starts, "goals": goals}):
        env.reset([5, 6, 7, 8], **given)
        assert np.array_equal(env.states(), starts) == ("starts" in given)
        assert np.array_equal(env.goal_states(), goals) == ("goals" in given)
        assert env.task.same_world(env.states(), env.goal_states()).all()


def test_a_row_of_a_dataset_is_a_start():
    for name in NAMES:
        env = make_env(name, num_envs=4, env_options={"obs": "state"})
        row = env.reset(0)
        states = env.task.state_of(row.infos)
        assert np.allclose(states, env.states(), atol=1e-6)
        env.reset(1, starts=states)
        assert np.allclose(states, env.states(), atol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"starts": [[0.5, 0.1, 0.5, 0.5]]}, r"starts\[0\] is .*'agent_x': 0.5.*inside a wall"),
        ({"goals": [[0.2, 1.2, 0.5, 0.5]]}, r"goals\[0\] is .*outside"),
        (
            {"starts": [[0.2, 0.2]]},
            r"starts is of shape \(1, 2\), expected \(1, 4\) finite numbers: agent_x, agent_y",
        ),
        ({"starts": [[0.2, np.nan, 0.5, 0.5]]}, "finite numbers"),
        ({"starts": [[0.2, 0.2, 0.5, 0.5]], "goals": [[0.2, 0.3, 0.6, 0.5]]}, "are of different worlds"),
    ],
)
def test_a_state_that_cannot_be_is_refused(given, message):
    with pytest.raises(ConfigurationError, match=message):
        make_env("study:two-room").reset(0, **given)


def test_rewards_are_minus_the_distance_or_one_at_the_goal():
    for kind in ("dense", "sparse"):
        env = make_env("study:point-goal", num_envs=3, env_options={"obs": "state", "reward": kind})
        assert (env.reset(0).reward == 0).all()
        for _ in range(14):
            row = env.step(env.oracle())
            expected = -env.distance() if kind == "dense" else env.success()
            assert np.allclose(row.reward, expected) and not row.is_terminal.any()
        assert env.success().all()


@pytest.mark.parametrize("name", NAMES)
def test_the_goal_is_shown_where_that_is_asked_for_and_nowhere_else(name):
    hidden, shown = (make_env(name, env_options={"obs": "both", "show_goal": asked}) for asked in (False, True))
    goals = shown.reset([3]) and shown.goal_states()
    pictures = {}
    for env in (hidden, shown):
        rows = [env.reset([3], starts=shown.states(), goals=one) for one in (goals, shown.states())]
        pictures[env] = [row.obs["image"] for row in rows]
    assert np.array_equal(*pictures[hidden]) and not np.array_equal(*pictures[shown])
    assert "goal" not in hidden.obs_spec and shown.obs_spec["goal"].shape == shown.obs_spec["state"].shape


def test_gymnasium_s_environment_takes_a_start_and_a_goal_and_tells_of_them():
    gymnasium = pytest.importorskip("gymnasium")
    from gymnasium.utils.env_checker import check_env

    from worldflux.envs.study.gym_env import StudyGymEnv

    env = StudyGymEnv("study:two-room", options={"obs": "both"}, render_mode="rgb_array")
    assert isinstance(env, gymnasium.Env)
    check_env(env, skip_render_check=True)
    start, goal = np.array([0.2, 0.2, 0.5, 0.5]), np.array([0.8, 0.8, 0.5, 0.5])
    obs, info = env.reset(seed=1, options={"start": start, "goal": goal})
    assert np.array_equal(info["state"], start) and np.array_equal(info["goal_state"], goal) and not info["success"]
    assert env.observation_space.contains(obs) and env.observation_space.contains(info["goal"])
    for _ in range(60):
        obs, _, ended, cut, info = env.step(env.oracle())
    assert info["success"] and info["distance"] < 1e-6 and not ended and not cut
    assert np.array_equal(obs["image"], info["goal"]["image"]) and env.render().shape == (64, 64, 3)
    with pytest.raises(ConfigurationError, match="reset has no option 'gaol'.*Did you mean 'goal'"):
        env.reset(options={"gaol": goal})
    assert not np.array_equal(env.reset()[0]["state"], env.reset()[0]["state"])
