"""When a row's reward was paid, and what becomes of the last one where the observation that it led to is not kept."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from worldflux.core.errors import ConfigurationError

from ..recording import DatasetError
from .naming import Chosen

#: Paid on arriving; paid after the action, with the last observation; the same without it.
Layout = Literal["arrival", "gymnasium", "transitions"]


def guess_layout(place: str, chosen: Chosen, first_rewards: np.ndarray | None, remarks: list[str]) -> Layout:
    """Return the layout of columns that are all of one length; ``first_rewards`` is each episode's first.

    Raises DatasetError where nothing tells: a reward off by one row would teach what is not so.
    """
    if chosen.first is not None or chosen.last is not None or chosen.terminal == "is_terminal" or first_rewards is None:
        return "arrival"
    if chosen.terminal is None and not chosen.stops and not first_rewards.any():
        remarks.append("every first reward is 0: read as paid on arriving; layout='transitions' reads it as paid after")
        return "arrival"
    raise DatasetError(
        f"{place}: nothing tells whether {chosen.reward!r} of a row was paid on arriving there or after its "
        f"{chosen.action or 'action'!r}: pass layout='arrival' or layout='transitions'"
    )


def check_tail(tail: Any) -> None:
    """Raise ConfigurationError for what says nothing of the reward of an arrival that is not shown."""
    if tail not in (None, "stand_in", "drop"):
        raise ConfigurationError(f"tail is {tail!r}, expected 'stand_in' (a marked row more) or 'drop' (left out)")


def stands_in(tail: str | None, reward: str | None, terminal: str | None, remarks: list[str]) -> bool:
    """Whether every episode gets a row more, whose observation repeats the one before it; says so.

    The default is so where there is a reward or an end in truth to keep.
    """
    kept = tail == "stand_in" or (tail is None and (reward is not None or terminal is not None))
    if kept:
        remarks.append(
            "the last observation is not kept: each episode ends in a stand-in row that repeats the one before"
        )
    elif reward is not None or terminal is not None:
        remarks.append("the last reward and every end in truth are lost, as tail='drop' says")
    return kept


def padded_actions(actions: np.ndarray, length: int) -> np.ndarray:
    """Return actions ``[n, ...]`` as ``[length, ...]``; added ones are fillers: -1 where they are indices."""
    more = length - len(actions)
    if more <= 0:
        return actions
    indices = actions.dtype.kind in "iub"
    actions = actions.astype(np.int64) if indices else actions
    return np.concatenate([actions, np.full((more, *actions.shape[1:]), -1 if indices else 0, actions.dtype)])
