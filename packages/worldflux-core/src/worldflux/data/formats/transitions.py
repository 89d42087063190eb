"""From transitions, which pay and flag what they led to, to rows on arriving; with or without the last observation."""

from __future__ import annotations

from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ModalityKind, ModalitySpec

TAILS = ("stand_in", "drop")


def tail_of(given: Any, *, default: str) -> str:
    """Return how the arrival that a file does not show is read. Raises ConfigurationError for another word."""
    if given is not None and given not in TAILS:
        raise ConfigurationError(f"tail is {given!r}, expected 'stand_in' (a marked row more) or 'drop' (left out)")
    return default if given is None else str(given)


class Arrivals:
    """The rows of episodes of ``steps`` ``[E]`` transitions that lie in one line; with ``extra`` one more each.

    ``lengths`` ``[E]`` counts the rows, ``source`` ``[rows]`` is the transition that each begins, and for an extra row,
    where none does, the one before; ``extra`` ``[rows]`` marks these.
    """

    def __init__(self, steps: np.ndarray, *, extra: bool) -> None:
        steps = np.asarray(steps, np.int64)
        self.steps, self.lengths = steps, steps + extra
        self.last = np.cumsum(steps) - 1
        ends = np.cumsum(self.lengths) - 1
        self.extra = np.zeros(int(self.lengths.sum()), bool)
        if extra:
            self.extra[ends] = True
        self.source = np.arange(len(self.extra)) - np.cumsum(self.extra)
        self._first = np.zeros(len(self.extra), bool)
        self._first[ends - self.lengths + 1] = True

    def states(self, values: np.ndarray, last: np.ndarray | None = None) -> np.ndarray:
        """Return what was seen before each transition as rows; extra rows show ``last`` ``[E, ...]``, or repeat."""
        rows = values[self.source]
        if last is not None and self.extra.any():
            rows[self.extra] = last
        return rows

    def rewards(self, paid: np.ndarray) -> np.ndarray:
        """Return rewards paid after each transition as float32 on arriving, 0 in first rows."""
        before = np.where(self.extra, self.source, self.source - 1)
        with np.errstate(over="ignore"):
            values = np.asarray(paid, np.float32)[np.maximum(before, 0)]
        return np.where(self._first, np.float32(0), values)


def disagreement(seen: np.ndarray, following: np.ndarray, steps: np.ndarray) -> tuple[int, int, int]:
    """Tell how often the observation after a transition is not the next row's: the number, first episode and row."""
    inner = np.ones(len(seen), bool)
    inner[np.cumsum(steps) - 1] = False
    at = np.flatnonzero(inner)
    wrong = at[
        ~np.isclose(following[at], seen[at + 1], rtol=1e-4, atol=1e-5, equal_nan=True).reshape(len(at), -1).all(1)
    ]
    if not len(wrong):
        return 0, 0, 0
    episode = int(np.searchsorted(np.cumsum(steps), wrong[0], side="right"))
    return len(wrong), episode, int(wrong[0] - (np.cumsum(steps) - steps)[episode]) + 1


def info_column(values: np.ndarray) -> np.ndarray | None:
    """Return what else rows hold as float32 or int64; None for what is no number, is empty, or too big to keep."""
    if values.dtype.kind not in "biuf" or not values.size or values[0].nbytes > 1 << 14:
        return None
    with np.errstate(over="ignore"):
        return values.astype(np.float32 if values.dtype.kind in "fb" else np.int64)


def vector_spec(name: str, rows: np.ndarray) -> ModalitySpec:
    """Return the spec of a column of numbers ``[rows, ...]``."""
    return ModalitySpec(ModalityKind.VECTOR, rows.shape[1:], str(rows.dtype), None, name)
