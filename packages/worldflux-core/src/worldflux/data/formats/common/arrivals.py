"""From what rows pay and flag after their actions to rows on arriving; with or without the last observation."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from worldflux.core.errors import ConfigurationError

from ...recording import DatasetError
from .naming import Chosen

#: Paid on arriving; paid after the action, with the last observation; the same without it.
Layout = Literal["arrival", "gymnasium", "transitions"]
LAYOUTS = ("arrival", "gymnasium", "transitions")
#: What becomes of an arrival whose observation is nowhere: a marked row that repeats the one before, or nothing.
TAILS = ("stand_in", "drop")


def check_layout(layout: Any, tail: Any) -> None:
    """Raise ConfigurationError for a layout or a tail that is none."""
    if layout is not None and layout not in LAYOUTS:
        raise ConfigurationError(f"layout is {layout!r}, expected 'arrival', 'gymnasium' or 'transitions'")
    if tail is not None and tail not in TAILS:
        raise ConfigurationError(f"tail is {tail!r}, expected 'stand_in' (a marked row more) or 'drop' (left out)")


def stands_in(tail: Any, *, pays: bool, remarks: list[str]) -> bool:
    """Whether episodes end in a stand-in row, which is said; without ``tail`` they do where a last arrival ``pays``.

    It pays where there are rewards or ends to lose. Raises ConfigurationError for another word.
    """
    check_layout(None, tail)
    kept = tail == "stand_in" or (tail is None and pays)
    if kept:
        remarks.append(
            "what the last actions led to is not kept: every episode ends in a stand-in row that repeats the "
            "observation before it, its reward and its end are real; tail='drop' leaves it out"
        )
    elif pays:
        remarks.append(
            "what the last actions led to is not kept: the last reward of every episode and every end in truth are "
            "left out, as tail='drop' says"
        )
    return kept


def guess_layout(place: str, chosen: Chosen, first_rewards: np.ndarray | None, remarks: list[str]) -> Layout:
    """Return the layout of columns that are all of one length; ``first_rewards`` is each episode's first.

    Raises DatasetError where nothing tells: a reward off by one row would teach what is not so.
    """
    if chosen.first is not None or chosen.last is not None or chosen.terminal == "is_terminal" or first_rewards is None:
        return "arrival"
    if str(chosen.reward).startswith("next"):  # the name says of what it is the reward
        return "transitions"
    if chosen.terminal is None and not chosen.stops and not first_rewards.any():
        remarks.append("every first reward is 0: read as paid on arriving; layout='transitions' reads it as paid after")
        return "arrival"
    raise DatasetError(
        f"{place}: nothing tells whether {chosen.reward!r} of a row was paid on arriving there or after its "
        f"{chosen.action or 'action'!r}: pass layout='arrival' or layout='transitions'"
    )


def arrival(rewards: np.ndarray) -> np.ndarray:
    """Return rewards ``[T]`` paid after the action of their row as ``[T + 1]`` on arriving, 0 in the first row."""
    return np.concatenate([np.zeros(1, np.float32), np.asarray(rewards, np.float32)])


def padded(actions: np.ndarray, *, rows: int) -> np.ndarray:
    """Return actions ``[n, ...]`` as ``[rows, ...]``, if that is more; added ones are zeros, which nobody took."""
    more = max(0, rows - len(actions))
    return np.concatenate([actions, np.zeros((more, *actions.shape[1:]), actions.dtype)])


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

    def arrived(self, values: np.ndarray) -> np.ndarray:
        """Return what each transition led to as rows of where it led, 0 in first rows."""
        before = np.where(self.extra, self.source, self.source - 1)
        rows = values[np.maximum(before, 0)]
        rows[self._first] = 0
        return rows

    def rewards(self, paid: np.ndarray) -> np.ndarray:
        """Return rewards paid after each transition as float32 on arriving, 0 in first rows."""
        with np.errstate(over="ignore"):
            return self.arrived(np.asarray(paid, np.float32))


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
