"""Spaces are kept as JSON and come back as what the adapters read."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("gymnasium")

from gymnasium import spaces as gym

from worldflux.agent import read_spaces, write_spaces
from worldflux.core.errors import CheckpointError
from worldflux.envs.spaces import ActionAdapter, ObservationAdapter

SEEN = gym.Dict(
    {
        "eyes": gym.Box(0, 255, (8, 6, 3), np.uint8),
        "at": gym.Tuple((gym.Box(-np.inf, np.inf, (2,), np.float64), gym.MultiBinary((2, 2)))),
        "mood": gym.Discrete(4, start=-2),
        "dice": gym.MultiDiscrete([[2, 3], [4, 5]], start=[[0, 1], [2, 3]]),
    }
)
DONE = gym.Dict(
    {
        "arm": gym.Box(np.array([-0.1, -7.0], np.float32), np.array([0.3, 2.5], np.float32)),
        "steer": gym.Box(-3, 4, (1,), np.int16),
        "mood": gym.Discrete(4, start=-2),
        "dice": gym.MultiDiscrete([2, 3], start=[1, 5]),
        "keys": gym.MultiBinary(2),
    }
)


def test_what_is_read_back_observes_and_acts_as_the_original(tmp_path):
    write_spaces(tmp_path, (SEEN, DONE))
    seen, done = read_spaces(tmp_path)
    observed, acted = ObservationAdapter(SEEN), ActionAdapter(DONE)
    SEEN.seed(0)
    rows = [SEEN.sample() for _ in range(3)]
    again = ObservationAdapter(seen)
    assert again.spec == observed.spec
    for name, value in observed(rows).items():
        assert np.array_equal(again(rows)[name], value)
    assert ActionAdapter(done).spec == acted.spec
    for flat in np.random.default_rng(0).uniform(-1, 1, (5, acted.spec.dim)).astype(np.float32):
        action = ActionAdapter(done)(flat)
        assert DONE.contains(action)
        assert all(np.array_equal(action[name], value) for name, value in acted(flat).items())


def test_a_directory_without_spaces_has_none(tmp_path):
    assert read_spaces(tmp_path) is None


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"observation": {"kind": "Box"}, "action": {}},
        {"observation": {"kind": "object", "shape": [], "dtype": "float32"}},
        {"observation": {"kind": "Box", "shape": [2], "dtype": "object", "low": 0, "high": 1}},
        {"observation": {"kind": "Box", "shape": [1 << 20, 1 << 20], "dtype": "uint8", "low": 0, "high": 1}},
        {"observation": {"kind": "Box", "shape": [2], "dtype": "float32", "low": [0, 1, 2], "high": 1}},
        {"observation": {"kind": "Box", "shape": [-2], "dtype": "float32", "low": 0, "high": 1}},
        {"observation": {"kind": "Discrete", "shape": [], "dtype": "int64", "n": 0, "start": 0}},
        {"observation": {"kind": "Discrete", "shape": [], "dtype": "int64", "n": "inf", "start": 0}},
        {"observation": {"kind": "Dict", "spaces": [[None, {}]]}},
        {"observation": {"kind": ["Box"], "shape": [], "dtype": "int64"}},
    ],
)
def test_damaged_spaces_are_refused_with_the_files_name(tmp_path, stored):
    (tmp_path / "spaces.json").write_text(json.dumps(stored))
    with pytest.raises(CheckpointError, match=r"spaces\.json describes no spaces"):
        read_spaces(tmp_path)
