"""The command in an environment of one's own: a module or a file beside it, and options."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("gymnasium")

OWN = """
import gymnasium
import numpy as np


class Own(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), "float32")
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, pays=1.0):
        self.pays = pays

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.zeros(2, np.float32), self.pays, False, self.time == 4, {}


gymnasium.register("Own-v0", Own)
"""
SHORT = ["--steps", "60", "--eval-episodes", "1", "--device", "cpu", "--json"]
NAMED = ["--env", "own_envs:Own-v0"]


@pytest.fixture(scope="module")
def calls(worldflux):
    (worldflux.cwd / "own_envs.py").write_text(OWN)
    several = {
        "train": ["train", "toyworld:ci", *NAMED, "--env-set", "pays=2.0", "--run", "runs/m", *SHORT],
        "eval": ["eval", "runs/m", "--episodes", "1"],
        "eval named": ["eval", "runs/m", *NAMED, "--episodes", "1", "--json"],
        "eval set": ["eval", "runs/m", *NAMED, "--env-set", "pays=3.0", "--episodes", "1", "--json"],
        "plan named": [
            *("plan", "runs/m", *NAMED, "--planner", "random", "--set", "num_samples=4", "--episodes", "1", "--json"),
        ],
        "imagine named": [
            "imagine",
            "runs/m",
            *NAMED,
            "--context",
            "1",
            "--horizon",
            "2",
            "--sequences",
            "1",
            "--json",
        ],
        "resume": ["train", "--run", "runs/m", "--resume", "--steps", "80"],
        "resume named": ["train", "--run", "runs/m", "--resume", "--steps", "80", *NAMED, "--json"],
        "file": ["train", "toyworld:ci", "--env", "own_envs.py:Own", "--run", "runs/f", "--policy", "random", *SHORT],
        "saved": [
            "eval",
            "runs/f/model",
            "--env",
            "own_envs.py:Own",
            "--episodes",
            "1",
            "--policy",
            "random",
            "--json",
        ],
        "no pair": ["train", "toyworld:ci", *NAMED, "--env-set", "pays", "--run", "runs/n"],
        "no class": ["train", "toyworld:ci", "--env", "own_envs.py:Mine", "--run", "runs/n"],
        "no image": ["train", "toyworld:ci", "--env", "CartPole-v1", "--image-size", "8", "--run", "runs/n"],
        "short help": ["eval", "-h"],
    }
    return dict(zip(several, worldflux.several(*several.values()), strict=True))


@pytest.mark.parametrize(
    ("call", "earned"),
    [("train", 8), ("eval named", 8), ("eval set", 12), ("resume named", 8), ("file", 4), ("saved", 4)],
)
def test_an_environment_of_ones_own_is_named_with_its_options(calls, call, earned):
    assert calls[call].code == 0, calls[call].err
    assert json.loads(calls[call].out)["trained"]["mean"] == earned


@pytest.mark.parametrize("call", ["plan named", "imagine named"])
def test_every_verb_takes_it(calls, call):
    assert calls[call].code == 0, calls[call].err
    assert json.loads(calls[call].out)["env"] == "own_envs:Own-v0"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("eval", "--env 'own_envs:Own-v0' in the command"),
        ("resume", "--env 'own_envs:Own-v0' in the command"),
        ("no pair", "--env-set takes KEY=VALUE, got 'pays'"),
        ("no class", "own_envs.py has Own"),
        ("no image", "--render-size 8"),
    ],
)
def test_what_is_missing_is_said(calls, call, words):
    assert (calls[call].code, calls[call].out) == (2, "")
    assert words in calls[call].err


def test_h_is_help(calls):
    assert calls["short help"].code == 0 and "--env-set KEY=VALUE" in calls["short help"].out


def test_only_what_the_caller_names_is_looked_for_in_the_working_directory(worldflux, calls):
    (worldflux.cwd / "gymnasium.py").write_text("raise SystemExit('a file beside the run was imported')\n")
    try:
        done = worldflux("eval", "runs/m", *NAMED, "--episodes", "1", "--json")
    finally:
        (worldflux.cwd / "gymnasium.py").unlink()
    assert done.code == 0, done.err
    assert json.loads(done.out)["trained"]["mean"] == 8
