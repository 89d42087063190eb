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


@pytest.fixture
def make_replay():
    """A factory of small replays of two streams, one number and two latents a row."""
    from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec
    from worldflux.data import Replay

    def make(capacity=40, **options):
        options = {"num_streams": 2, "latent_spec": {"h": ((2,), "float32")}, **options}
        return Replay(
            capacity,
            obs_spec={"obs": ModalitySpec(ModalityKind.VECTOR, (1,))},
            action_spec=ActionSpec("continuous", 1),
            **options,
        )

    return make


@pytest.fixture
def fill():
    """Add rows whose observation is ``stream * 1000 + row`` in episodes of the given lengths, one list per stream."""
    from worldflux.envs import Step

    def add(replay, rows, lengths=(5, 7), start=0):
        streams = replay.num_streams
        for row in range(start, start + rows):
            number = np.array([[s * 1000 + row] for s in range(streams)], np.float32)
            first = np.array([row % lengths[s % len(lengths)] == 0 for s in range(streams)])
            last = np.array([(row + 1) % lengths[s % len(lengths)] == 0 for s in range(streams)])
            step = Step({"obs": number}, np.where(first, 0, number[:, 0]).astype(np.float32), first, last, last)
            latents = {"h": np.repeat(number, 2, axis=1)} if replay.latent_names else None
            replay.add(step, -number, latents)

    return add
