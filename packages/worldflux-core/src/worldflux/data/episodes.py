"""Returns and lengths of the episodes that ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from worldflux.core.errors import CheckpointError
from worldflux.envs import Step
from worldflux.words.counts import counted


class EpisodeStatistics:
    """Adds up rewards row by row; knows nothing of abandoned episodes."""

    def __init__(self, num: int) -> None:
        self._return = np.zeros(num)
        self._length = np.zeros(num, np.int64)
        self._total = 0
        self._ended: list[tuple[float, int]] = []

    def add(self, step: Step) -> None:
        """Take note of one row of every environment."""
        self.abandon(step.is_first)
        self._return += step.reward
        self._length += ~step.is_first  # an action led to every row but the first
        for env in np.flatnonzero(step.is_last):
            self._ended.append((float(self._return[env]), int(self._length[env])))
            self._total += 1

    def abandon(self, which: np.ndarray | None = None) -> None:
        """Forget the open episodes of some environments (default: all)."""
        self._return[slice(None) if which is None else which] = 0
        self._length[slice(None) if which is None else which] = 0

    def pop(self) -> dict[str, float]:
        """Return the metrics and forget the ended episodes, but not how many there were."""
        out: dict[str, float] = {"episodes": self._total}
        if self._ended:
            returns, lengths = zip(*self._ended, strict=True)
            out |= {
                "episode/return": float(np.mean(returns)),
                "episode/return_min": float(np.min(returns)),
                "episode/return_max": float(np.max(returns)),
                "episode/length": float(np.mean(lengths)),
            }
        self._ended = []
        return out

    def state(self) -> dict[str, Any]:
        """Return everything, JSON-able."""
        return {
            "return": self._return.tolist(),
            "length": self._length.tolist(),
            "total": self._total,
            "ended": [list(pair) for pair in self._ended],
        }

    @classmethod
    def of(cls, state: Mapping[str, Any], num: int) -> EpisodeStatistics:
        """Return what ``state`` described. Raises CheckpointError if that is damaged, or of another number."""
        loaded = cls(num)
        try:
            loaded._return[:], loaded._length[:] = np.reshape(state["return"], num), np.reshape(state["length"], num)
            loaded._total, loaded._ended = int(state["total"]), [(float(r), int(n)) for r, n in state["ended"]]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(
                f"saved source: 'statistics' of {counted(num, 'environment')} are damaged: {error!r}"
            ) from error
        return loaded
