"""An action of a model that learned from every k-th row is k steps of its environment."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError, ShapeMismatchError
from worldflux.core.spec import ActionSpec
from worldflux.envs import FrameSkip, VectorEnv, make_env
from worldflux.envs.skipping import each_step


class Counter(gym.Env):
    """Shows the sum of its actions, pays each, and ends when it has made as many steps as its seed says."""

    observation_space = gym.spaces.Box(-99, 99, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        self.left, self.sum = 3 + seed % 3, np.zeros(1, np.float32)
        return self.sum, {}

    def step(self, action):
        self.left, self.sum = self.left - 1, self.sum + action
        return self.sum, float(action[0]), self.left <= 0, False, {}


def actions(*rows):
    return np.array(rows, np.float32)


def test_an_action_is_so_many_steps_in_their_order():
    env = make_env("study:point-goal", num_envs=2, seed=3, frame_skip=3, env_options={"obs": "state"})
    alone = make_env("study:point-goal", num_envs=2, seed=3, env_options={"obs": "state"})
    assert isinstance(env, VectorEnv) and env.action_spec == ActionSpec("continuous", 6)
    first, start = env.reset(), alone.reset()
    np.testing.assert_array_equal(first.obs["state"], start.obs["state"])
    given = actions([0.5, 0, 0, -0.5, 0.1, 0.1], [-1, 0, 0, 1, 0.2, 0])
    step = env.step(given)
    rows = [alone.step(given[:, 2 * i : 2 * i + 2]) for i in range(3)]
    np.testing.assert_array_equal(step.obs["state"], rows[-1].obs["state"])
    np.testing.assert_allclose(step.reward, sum(row.reward for row in rows), rtol=1e-6)


def test_an_episode_ends_within_an_action_and_each_by_itself():
    env = make_env(Counter, num_envs=3, seed=4, frame_skip=2)
    env.reset()
    lengths = np.array([inner._envs[0].left for inner in env._envs])
    assert len(set(lengths)) > 1
    total, over = np.zeros(3), np.zeros(3, int)
    for t in range(1, 4):
        step = env.step(np.ones((3, 2), np.float32))
        total += np.where(over == 0, step.reward, 0)
        ended = step.is_last & (over == 0)
        over[ended] = t
        np.testing.assert_array_equal(step.obs["obs"][ended, 0], lengths[ended])  # what was left of it was not done
    np.testing.assert_array_equal(over, -(-lengths // 2))
    np.testing.assert_array_equal(total, lengths)


def test_after_an_end_the_next_row_begins_an_episode_and_its_action_is_ignored():
    env = make_env(Counter, seed=0, frame_skip=9)
    env.reset()
    assert env.step(np.ones((1, 9), np.float32)).is_last.all()
    begun = env.step(np.ones((1, 9), np.float32))
    assert begun.is_first.all() and begun.obs["obs"][0, 0] == 0 and begun.reward[0] == 0


def test_environments_that_are_stepped_together_and_end_apart_are_refused():
    env = FrameSkip([make_env(Counter, num_envs=3, seed=1)], frame_skip=5)
    env.reset()
    with pytest.raises(ConfigurationError, match=r"of 3 environments that are stepped together ended .*env=lambda"):
        env.step(np.ones((3, 5), np.float32))


def test_episodes_are_as_long_as_they_were_in_fewer_actions():
    assert make_env("study:point-goal", frame_skip=4, env_options={"limit": 50}).max_episode_steps == 13


def test_an_action_of_another_size_is_refused():
    env = make_env("study:point-goal", num_envs=2, frame_skip=2)
    env.reset()
    with pytest.raises(ShapeMismatchError, match="2 actions in one"):
        env.step(np.zeros((2, 2), np.float32))


def test_who_stops_asking_stops_the_environments():
    env = make_env("study:point-goal", env_options={"obs": "state"})
    env.reset()
    next(each_step(env, np.ones((1, 6), np.float32), frame_skip=3))
    assert env.time[0] == 1


@pytest.mark.parametrize("frame_skip", [0, True, 1.5])
def test_what_is_no_number_of_steps_is_refused(frame_skip):
    with pytest.raises(ConfigurationError, match="frame_skip must be a whole number"):
        FrameSkip([make_env("study:point-goal")], frame_skip=frame_skip)
