"""What environments tell beside observations is kept where they declare it, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError, ShapeMismatchError, ValidationError
from worldflux.envs import make_env
from worldflux.envs.step import info_spec

gymnasium = pytest.importorskip("gymnasium")
spaces = gymnasium.spaces


class Telling(gymnasium.Env):
    """Shows nothing and tells where it is."""

    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)
    info_space = spaces.Dict({"place": spaces.Box(-9, 9, (2,), np.float64), "room": spaces.Discrete(4)})

    def __init__(self, **other) -> None:
        self.other = other

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), self.told()

    def told(self):
        return {"place": np.array([self.t, 0.5]), "room": self.t % 4, "more": "text", **self.other}

    def step(self, action):
        self.t += 1
        return np.zeros(1, np.float32), 0.0, False, self.t == 3, self.told()


def test_infos_that_are_declared_are_in_every_step():
    env = make_env(lambda: gymnasium.wrappers.TimeLimit(Telling(), 2), num_envs=2)
    assert {name: (spec.shape, spec.dtype) for name, spec in info_spec(env).items()} == {
        "place": ((2,), "float32"), "room": ((), "int64")
    }  # fmt: skip
    rows = [env.reset(), *(env.step(np.eye(2)) for _ in range(3))]
    assert [row.infos["room"].tolist() for row in rows] == [[0, 0], [1, 1], [2, 2], [0, 0]]
    assert np.array_equal(rows[1].infos["place"], [[1, 0.5]] * 2)


def test_an_environment_that_declares_nothing_tells_nothing(counter):
    env = make_env(counter)
    assert info_spec(env) == {} and env.reset().infos == {}
    assert info_spec(object()) == {}


@pytest.mark.parametrize(
    ("told", "error", "message"),
    [
        ({"place": np.zeros(3)}, ShapeMismatchError, "environment 0: info 'place' is not of its space"),
        ({"room": 1.5}, ValidationError, "info 'room' has dtype float64, expected int64"),
    ],
)
def test_an_environment_that_tells_something_else_is_named(told, error, message):
    with pytest.raises(error, match=message):
        make_env(lambda: Telling(**told)).reset()


def test_what_cannot_be_an_info_is_refused_and_what_is_missing_is_named():
    class Text(Telling):
        info_space = spaces.Dict({"said": spaces.Text(4)})

    class Lone(Telling):
        info_space = spaces.Discrete(3)

    class Missing(Telling):
        info_space = spaces.Dict({"speed": spaces.Box(0, 1, (1,), np.float32)})

    with pytest.raises(ConfigurationError, match="info_space has 'said'"):
        make_env(Text)
    with pytest.raises(ConfigurationError, match="expected a Dict space"):
        make_env(Lone)
    with pytest.raises(ValidationError, match="gave no info 'speed'"):
        make_env(Missing).reset()
