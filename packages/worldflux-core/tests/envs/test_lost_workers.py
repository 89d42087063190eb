"""Gymnasium's asynchronous vectors whose worker processes end: said as it is, with advice that works."""

from __future__ import annotations

import os
import signal
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv

from worldflux.core.errors import TrainingError
from worldflux.data import BatchRequest, EnvironmentSource, Replay
from worldflux.envs import RandomPolicy, make_env
from worldflux.envs.vector import EnvironmentFailure

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="workers are killed by a signal"),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # what Gymnasium says about it beside what it raises
]


class Fragile(gymnasium.Env):
    """Shows zeros; its first action ends its process, or raises, where it is told to."""

    observation_space = gymnasium.spaces.Box(0, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, fails=""):
        self.fails = fails

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        if self.fails == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fails == "raises":
            raise RuntimeError("the gripper is stuck")
        return np.zeros(2, np.float32), 0.0, False, False, {}


def vector(fails=""):
    return AsyncVectorEnv([Fragile, lambda: Fragile(fails), Fragile])


def source(env, replay=None):
    replay = replay or Replay(90, obs_spec=env.obs_spec, action_spec=env.action_spec, num_streams=3)
    return EnvironmentSource(env, RandomPolicy(env.action_spec), replay, replay_ratio=4.0)


@pytest.mark.parametrize(
    ("fails", "message"), [("killed", r"worker process 1 \(exit code -9\)"), ("raises", "the gripper is stuck")]
)
def test_a_vector_that_lost_a_worker_says_so_however_often_it_is_asked(fails, message):
    env = make_env(vector(fails))
    env.reset()
    with pytest.raises(EnvironmentFailure, match=message):
        env.step(np.eye(2, dtype=np.float32)[[0, 0, 0]])
    with pytest.raises(EnvironmentFailure, match="worker process 1 .*nor be reset: make a new one") as caught:
        env.reset()
    assert caught.value.lost
    env.close()


def test_what_was_collected_goes_on_in_a_new_vector():
    lost = source(make_env(vector("killed")))
    with pytest.raises(TrainingError, match="1 .*rows collected so far are kept; .*in a new EnvironmentSource"):
        lost.sample(BatchRequest(2, 4))
    lost.close()
    rows = len(lost.replay)
    going_on = source(make_env(vector()), lost.replay)
    batch = going_on.sample(BatchRequest(2, 4))
    assert rows == 3 and len(lost.replay) > rows and batch.obs["obs"].shape == (2, 4, 2)
    going_on.close()


def test_a_mistake_that_ends_no_worker_can_be_gone_on_from():
    env = make_env(vector())
    env.reset()
    with pytest.raises(EnvironmentFailure) as caught:
        env._call("step", None)
    assert not caught.value.lost
    env.close()


def test_closing_a_vector_that_lost_a_worker_ends_the_others():
    gym = vector("killed")
    env = make_env(gym)
    env.reset()
    with pytest.raises(EnvironmentFailure):
        env.step(np.eye(2, dtype=np.float32)[[0, 0, 0]])
    env.close()
    assert not any(process.is_alive() for process in gym.processes)
