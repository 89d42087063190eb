"""The replay of a run as recorded data: what its run, and what starts from that, has learned from."""

from __future__ import annotations

import numpy as np
import pytest

from worldflux.data import convert, open_dataset
from worldflux.experiment import Run, fit, judge

gym = pytest.importorskip("gymnasium")
pytestmark = pytest.mark.usefixtures("toy")
SMALL = {"device": "cpu", "threads": 1, "eval_episodes": 1}


class Push(gym.Env):
    """Moves a point; over after eight."""

    observation_space = gym.spaces.Box(-99, 99, (1,), np.float32)
    action_space = gym.spaces.Box(-2, 2, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.at = 0, np.zeros(1, np.float32)
        return self.at.copy(), {}

    def step(self, action):
        self.time, self.at = self.time + 1, self.at + action
        return self.at.copy(), 1.0, False, self.time == 8, {}


def test_what_a_run_collected_is_nothing_that_it_has_not_seen(tmp_path, caplog):
    acted = fit("toyworld", env=Push, steps=40, run=tmp_path / "acted", **SMALL).directory
    convert(open_dataset(acted), tmp_path / "set")
    for data in (acted, tmp_path / "set"):
        assert judge(Run.load(acted), data, context=2, horizon=2, sequences=2).card["held_out"] is False
    fit("toyworld", data=acted, start_from=acted, updates=2, run=tmp_path / "on", **SMALL)
    assert "learned from episodes of" in caplog.text
