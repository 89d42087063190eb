"""Environments in files and modules that the caller names."""

from __future__ import annotations

import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.envs import make_env
from worldflux.envs.code import names_code

SOURCE = """
import gymnasium
import numpy as np
from sizes import SIZE


class Mine(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (SIZE,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, length=3):
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(SIZE, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.zeros(SIZE, np.float32), float(self.length), False, self.time == self.length, {}


def make(length):
    return Mine(length)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "own_env.py").write_text(SOURCE)
    (tmp_path / "sizes.py").write_text("SIZE = 5\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["own_env.py:Mine", "./own_env.py:make", "{folder}/own_env.py:Mine"])
def test_a_class_or_a_function_in_a_file_makes_environments_with_its_options(folder, name):
    env = make_env(name.format(folder=folder), num_envs=2, env_options={"length": 4})
    env.reset(seed=0)
    assert env.obs_spec["obs"].shape == (5,)
    assert env.step([[1, 0], [0, 1]]).reward.tolist() == [4, 4]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own_env.py", "no class or function is named. own_env.py has Mine, make; write own_env.py:Mine"),
        ("own_env.py:Mind", "Did you mean 'Mine'"),
        ("own_env.py:SIZE", "own_env.py has Mine, make"),
        ("own_envs.py:Mine", "there is no file .*own_envs.py"),
        ("broken.py:Mine", "broken.py failed: ZeroDivisionError"),
        ("leaving.py:Mine", "leaving.py failed: SystemExit"),
        ("no_such_module:Mine", "no module 'no_such_module'.*no_such_module.py:Mine"),
    ],
)
def test_what_is_not_there_is_named(folder, name, words):
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "leaving.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(ConfigurationError, match=words):
        make_env(name)


def test_a_class_of_a_module_needs_no_registration(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    assert make_env("own_env:Mine").obs_spec["obs"].shape == (5,)


def test_a_changed_file_is_read_again(folder):
    assert make_env("own_env.py:Mine").obs_spec["obs"].shape == (5,)
    (folder / "own_env.py").write_text(SOURCE.replace("(SIZE,)", "(SIZE + 1,)"))
    assert make_env("own_env.py:Mine").obs_spec["obs"].shape == (6,)


@pytest.mark.parametrize(
    "name", ["a:B-v0", "gym:a:B-v0", "gym:dmc:x", "gym:gym:x", "a.py:B", "a.py", "GYM:CartPole-v1"]
)
def test_a_name_that_imports_what_it_says_is_known_as_such(name):
    assert names_code(name)


@pytest.mark.parametrize("name", ["CartPole-v1", "gym:CartPole-v1", "ALE/Pong-v5", "dmc:cup-catch", "DMC:cup-catch"])
def test_a_name_that_picks_among_what_is_installed_is_no_code(name):
    assert not names_code(name)
