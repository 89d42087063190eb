"""Which environment an object is, under whatever it is wrapped in."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from worldflux.core.errors import ConfigurationError

_INNER = ("unwrapped", "env", "_env", "environment", "_environment")  # Gymnasium's word, and those of dm_env's wrappers


def already_made(env: Any) -> bool:
    """Tell whether this is an environment, or several, which its caller keeps; else it makes or names one."""
    return callable(getattr(env, "step", None)) and not isinstance(env, type)


def innermost(env: Any) -> Any:
    """Return the environment under all wrappers."""
    seen = [env]
    while (inner := _inside(seen[-1])) is not None and not any(inner is one for one in seen):
        seen.append(inner)
    return seen[-1]


def _inside(env: Any) -> Any:
    for name in _INNER:
        try:
            inner = getattr(env, name, None)
        except Exception:  # a wrapper that answers for what it wraps may raise anything
            continue
        if inner is not None and inner is not env and already_made(inner):
            return inner
    return None


def refuse_shared(envs: Sequence[Any]) -> None:
    """Raise ConfigurationError if two of several environments are one."""
    cores = [innermost(env) for env in envs]
    for i, core in enumerate(cores):
        for j in range(i):
            if core is cores[j]:
                raise ConfigurationError(
                    f"environments {j} and {i} are one and the same {type(core).__name__}, so each would be stepped "
                    "for both: what makes them must make a new one at every call, as in make_env(lambda: MyEnv())"
                )


class Fresh:
    """A factory whose every environment must be another one, because all are in use at once.

    Raises ConfigurationError when it gives one again that it gave before.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._given: list[Callable[[], Any]] = []  # weak references: nothing is kept for this

    def __call__(self) -> Any:
        """Return a new environment."""
        env = self._make()
        core = innermost(env)
        self._given = [given for given in self._given if given() is not None]
        if any(given() is core for given in self._given):
            raise ConfigurationError(
                f"the factory gave the same {type(core).__name__} twice, but environments to train in and to evaluate "
                "in are needed at once: have it make a new one at every call, as in env=lambda: MyEnv()"
            )
        try:
            self._given.append(weakref.ref(core))
        except TypeError:  # of a class that allows no such references
            self._given.append(lambda: core)
        return env
