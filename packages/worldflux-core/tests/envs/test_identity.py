"""One environment is never taken for several, and what the caller made stays the caller's."""

from __future__ import annotations

from types import SimpleNamespace

import gymnasium
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.envs import DmEnv, make_env
from worldflux.envs.identity import Fresh, innermost


def test_a_factory_that_gives_the_same_environment_again_is_refused(counter):
    one = counter()
    with pytest.raises(ConfigurationError, match="environments 0 and 1 are one and the same Counter"):
        make_env(lambda: one, num_envs=2)


def test_other_wrappers_do_not_make_it_another_environment(counter):
    one = counter()
    with pytest.raises(ConfigurationError, match="one and the same Counter"):
        make_env(lambda: gymnasium.wrappers.TimeLimit(one, 5), num_envs=2)


def test_a_foreign_vector_of_the_same_environment_is_refused(counter):
    one = counter()
    with pytest.raises(ConfigurationError, match="one and the same Counter"):
        make_env(gymnasium.vector.SyncVectorEnv([lambda: one] * 2))


def test_an_environment_is_found_under_wrappers_of_every_kind(counter):
    class Around:
        def __init__(self, env):
            self._environment = env

        def step(self, action):
            return self._environment.step(action)

    one = counter()
    assert innermost(Around(Around(gymnasium.wrappers.TimeLimit(one, 5)))) is one


def test_a_ring_of_wrappers_ends():
    class Ring:
        def step(self, action): ...

    one, other = Ring(), Ring()
    one.env, other.env = other, one
    assert innermost(one) in (one, other)


def test_a_factory_in_use_more_than_once_must_make_new_ones(counter):
    one = counter()
    make = Fresh(lambda: one)
    assert make() is one
    with pytest.raises(ConfigurationError, match="the same Counter twice.*lambda: MyEnv"):
        make()
    fresh = Fresh(counter)
    assert fresh() is not fresh()


def test_refused_options_do_not_close_the_callers_environment(counter):
    class Closing(counter):
        closed = False

        def close(self):
            self.closed = True

    env = Closing()
    with pytest.raises(ConfigurationError, match="frame_stack=2 is for images"):
        make_env(env, frame_stack=2)
    assert not env.closed


def test_dm_environments_are_told_apart_by_what_is_inside():
    spec = SimpleNamespace(shape=(1,), dtype=float, minimum=-1.0, maximum=1.0)

    class Dm:
        def step(self, action): ...

        def reset(self): ...

        def observation_spec(self):
            return {"place": spec}

        def action_spec(self):
            return spec

    one = Dm()
    assert innermost(DmEnv(one)) is one
    with pytest.raises(ConfigurationError, match="one and the same Dm"):
        make_env(lambda: DmEnv(one), num_envs=2)
