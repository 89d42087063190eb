"""Gymnasium environments that have goals say so, and are taken at their word."""

from __future__ import annotations

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError, ShapeMismatchError, ValidationError
from worldflux.envs import GoalEnv, make_env

gymnasium = pytest.importorskip("gymnasium")
spaces = gymnasium.spaces


class Line(gymnasium.Env):
    """A place on a line, and another one to be at."""

    observation_space = spaces.Box(-9, 9, (1,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)
    state_space = spaces.Box(-9, 9, (1,), np.float64)

    def __init__(self, **told) -> None:
        self.told = told

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        drawn = {"start": self.np_random.uniform(-9, 9, 1), "goal": self.np_random.uniform(-9, 9, 1)}
        self.place, self.goal = ((options or {}).get(name, drawn[name]) for name in ("start", "goal"))
        return self.row()

    def row(self):
        known = {"state": self.place, "goal_state": self.goal, "goal": np.float32(self.goal)}
        info = known | {"success": abs(self.place - self.goal)[0] < 0.1} | self.told
        return np.float32(self.place), {name: value for name, value in info.items() if value is not None}

    def step(self, action):
        self.place = self.place + action
        obs, info = self.row()
        return obs, 0.0, False, False, info


@pytest.fixture
def env():
    return make_env(lambda: gymnasium.wrappers.TimeLimit(Line(), 4), num_envs=2, seed=1)


def test_starts_and_goals_are_taken_and_told(env):
    assert isinstance(env, GoalEnv) and env.state_names == ("state_0",) and env.max_episode_steps == 4
    row = env.reset(0, starts=[[0.0], [3.0]], goals=[[1.0], [-2.0]])
    assert row.obs["obs"].tolist() == [[0], [3]] == env.states().tolist()
    assert env.goals().state.tolist() == [[1], [-2]] == env.goals().obs["obs"].tolist()
    assert not env.success().any() and np.isnan(env.distance()).all()
    env.step(np.array([[1.0], [-1.0]]))
    assert env.success().tolist() == [True, False]


def test_what_is_given_holds_for_one_episode_and_seeds_for_theirs(env):
    env.reset(0, starts=[[0.0], [0.0]])
    goals = env.goals().state
    for _ in range(5):
        row = env.step(np.zeros((2, 1)))
    assert row.is_first.all() and (env.states() != 0).all() and (env.goals().state != goals).all()
    first = env.reset([7, 8]).obs["obs"]
    assert np.array_equal(env.reset([8, 7]).obs["obs"], first[::-1])
    assert not np.array_equal(env.reset().obs["obs"], env.reset().obs["obs"])


def test_those_without_a_state_space_have_no_goals(counter):
    assert not isinstance(make_env(counter), GoalEnv)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"starts": [[0.0]]}, r"starts is of shape \(1, 1\), expected finite numbers \(2, 1\)"),
        ({"goals": [[0.0], [np.nan]]}, "goals is of shape"),
        ({"seed": [1]}, "one for each of 2"),
    ],
)
def test_what_is_not_one_for_each_is_refused(env, given, message):
    with pytest.raises(ConfigurationError, match=message):
        env.reset(**given)


def test_an_environment_that_does_not_tell_what_it_says_is_named():
    with pytest.raises(ValidationError, match="environment 0 has a state_space, but its info has no 'goal_state'"):
        make_env(lambda: Line(goal_state=None)).reset()
    wrong = make_env(lambda: Line(goal_state=np.zeros(2)))
    wrong.reset()
    with pytest.raises(ShapeMismatchError, match="info 'goal_state' is not of its state_space"):
        wrong.goals()


@pytest.mark.parametrize("name", ["study:two-room", "study:push-block"])
def test_the_environments_for_study_are_the_same_as_gymnasium_s(name):
    from worldflux.envs.study.gym_env import StudyGymEnv

    options = {"obs": "both", "limit": 3, "vary": ["speed"]}
    native = make_env(name, num_envs=3, env_options=options)
    others = make_env(lambda: StudyGymEnv(name, options=options), num_envs=3)
    assert native.state_names == others.state_names
    states = native.reset(0) and native.states()
    for given in ({"seed": 4}, {"seed": [5, 6, 7], "starts": states}, {"goals": states}):
        rows = [env.reset(**given) for env in (native, others)]
        for t in range(5):
            assert all(np.array_equal(rows[0].obs[key], rows[1].obs[key]) for key in rows[0].obs)
            for told in ("states", "success", "distance"):
                assert np.array_equal(getattr(native, told)(), getattr(others, told)())
            goals = native.goals(), others.goals()
            assert np.array_equal(goals[0].state, goals[1].state)
            assert np.array_equal(goals[0].obs["image"], goals[1].obs["image"])
            rows = [env.step(np.full((3, 2), 0.1 * t)) for env in (native, others)]
