"""Stretches recorded in an environment hold what it tells beside its observations, row by row."""

from __future__ import annotations

import numpy as np

from worldflux.envs import RandomPolicy, make_env
from worldflux.evals.segments import record_segments


def test_the_infos_of_every_row_are_kept():
    env = make_env("study:point-goal", num_envs=2, env_options={"obs": "state", "limit": 9})
    segments = record_segments(env, RandomPolicy(env.action_spec), sequences=3, rows=5)
    assert list(segments.info) == ["agent"] and segments.info["agent"].shape == (3, 5, 2)
    assert np.array_equal(segments.info["agent"], segments.obs["state"]) and segments.rewards.dtype == np.float32
