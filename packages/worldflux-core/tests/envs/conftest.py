"""A toy whose every number tells where it belongs."""

from __future__ import annotations

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")


class Counter(gymnasium.Env):
    """Step t shows one-hot(t) and pays t + 10 * (the action that led there); over after ``length`` steps."""

    metadata = {"render_modes": []}

    def __init__(self, length: int = 3, *, terminates: bool = True, fails_at: int | None = None) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 1, (8,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(3)
        self.length, self.terminates, self.fails_at = length, terminates, fails_at

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.eye(8, dtype=np.float32)[0], {}

    def step(self, action):
        self.t += 1
        if self.t == self.fails_at:
            raise RuntimeError("the gripper is stuck")
        over = self.t == self.length
        reward = float(self.t + 10 * action)
        return np.eye(8, dtype=np.float32)[self.t], reward, over and self.terminates, over and not self.terminates, {}


@pytest.fixture
def counter():
    return Counter
