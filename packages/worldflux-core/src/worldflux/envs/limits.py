"""How long an episode may be, where an environment says so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from worldflux.core.errors import ConfigurationError


def episode_limit(envs: Iterable[Any]) -> int | None:
    """Return the most steps an episode of any of these Gymnasium environments may have; None if one does not say."""
    limits = [_limit(env) for env in envs]
    return max((limit for limit in limits if limit is not None), default=None) if None not in limits else None


def begin_anew(env: Any, which: Any) -> None:
    """Have some of the environments of a vector ``[N]`` begin anew at its next step, their episodes cut here.

    Raises ConfigurationError for a vector that others built: only its own limit ends its episodes.
    """
    if not hasattr(env, "cut"):
        raise ConfigurationError(
            f"an episode of {type(env).__name__} is not over after as many steps as it may have, and a vector that is "
            "already built cannot begin one anew: build it of environments in gymnasium.wrappers.TimeLimit, or give "
            "one environment, of which this makes the vector"
        )
    env.cut(which)


def _limit(env: Any) -> int | None:
    while env is not None:  # down through the wrappers, of which TimeLimit is one
        for value in (
            getattr(env, "_max_episode_steps", None),
            getattr(getattr(env, "spec", None), "max_episode_steps", None),
        ):
            if isinstance(value, int) and value > 0:
                return value
        env = getattr(env, "env", None) or getattr(env, "_env", None)
    return None
