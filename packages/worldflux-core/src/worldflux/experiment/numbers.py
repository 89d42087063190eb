"""Numbers that evaluations are asked with, checked."""

from __future__ import annotations

from worldflux.core.errors import ConfigurationError

MAX_EVAL_ENVS = 32  # at once in an evaluation


def eval_envs(episodes: int) -> int:
    """Return how many environments to run ``episodes`` in, so that each has about as many.

    Raises ConfigurationError unless that is a number of episodes.
    """
    rounds = -(-whole("episodes", episodes, 1) // MAX_EVAL_ENVS)
    return -(-episodes // rounds)


def whole(name: str, value: int, least: int) -> int:
    """Return a whole number. Raises ConfigurationError for anything else, or less than ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name} is {value!r}, expected a whole number of at least {least}")
    return value
