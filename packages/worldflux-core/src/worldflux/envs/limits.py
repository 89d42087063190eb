"""How long an episode may be, where an environment says so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def episode_limit(envs: Iterable[Any]) -> int | None:
    """Return the most steps an episode of any of these Gymnasium environments may have; None if one does not say."""
    limits = [_limit(env) for env in envs]
    return max((limit for limit in limits if limit is not None), default=None) if None not in limits else None


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
