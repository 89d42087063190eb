"""Actions in [-1, 1]: scaled from the bounds that a format or the user gives, or left as they are, and said so."""

from __future__ import annotations

from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionSpec

from .shaping import one_hot, unit_actions

OPTIONS = ("action_low", "action_high")


def unit(
    actions: np.ndarray, taken: np.ndarray, low: Any, high: Any, *, options: dict[str, Any], continuous: np.ndarray
) -> tuple[np.ndarray, list[str], dict[str, Any]]:
    """Return actions ``[rows, A]`` in [-1, 1], what is to be remarked, and the bounds for the provenance.

    ``taken`` ``[rows]``: rows whose action somebody took, the others become 0. ``low`` and ``high`` ``[A]`` are
    infinite where there is no bound; the options' bounds, for the ``continuous`` components in their order, win.

    Raises ConfigurationError for bounds that are none.
    """
    low, high, given = np.array(low, np.float64), np.array(high, np.float64), _given(options, int(continuous.sum()))
    remarks: list[str] = []
    about: dict[str, Any] = {}
    if given is not None:
        low[continuous], high[continuous] = given
    bounded = np.isfinite(low) & np.isfinite(high) & (low < high)
    if (bounded & ((low != -1) | (high != 1))).any():
        about["action_bounds"] = {"low": low[bounded].tolist(), "high": high[bounded].tolist()}
        remarks.append(
            f"actions are scaled to [-1, 1] from the bounds {_few(low[bounded])} to {_few(high[bounded])}, as an "
            "environment with these bounds takes them from a model"
        )
    actions = unit_actions(actions, low, high)
    actions = np.where(taken[:, None], actions, np.float32(0))
    worst = np.abs(actions[:, continuous]).max(initial=0)
    if worst > 1 + 1e-4:
        rows = int((np.abs(actions[:, continuous]) > 1 + 1e-4).any(axis=1).sum())
        unknown = not bounded[continuous].all()
        remarks.append(
            f"{rows} actions lie outside [-1, 1] (up to {worst:.4g})"
            + (": the data says no bounds; action_low= and action_high= scale them" if unknown else "")
        )
    return actions, remarks, about


def plain(
    actions: np.ndarray, taken: np.ndarray, options: dict[str, Any]
) -> tuple[np.ndarray, ActionSpec, list[str], dict[str, Any]]:
    """Do what ``unit`` does for a format without an action space: whole numbers in one column are classes.

    ``actions`` is ``[rows]`` or ``[rows, ...]``; the size of a class is one more than the largest.
    """
    if actions.dtype.kind in "iub" and actions.reshape(len(actions), -1).shape[1] == 1:
        index = np.where(taken, actions.reshape(-1).astype(np.int64), 0)
        size = int(index.max(initial=0)) + 1
        if index.min(initial=0) < 0 or size > 2**16:
            raise ConfigurationError(f"the actions are whole numbers from {index.min()} to {size - 1}: no classes")
        remark = f"actions are whole numbers, taken for {size} classes (one more than the largest)"
        hot = one_hot(index, size) * taken[:, None].astype(np.float32)
        return hot, ActionSpec("discrete", size, discrete=True, num_actions=size), [remark], {}
    actions = actions.reshape(len(actions), -1)
    size = actions.shape[1]
    free = np.full(size, np.inf)
    flat, remarks, about = unit(actions, taken, -free, free, options=options, continuous=np.ones(size, bool))
    return flat, ActionSpec("continuous", size), remarks, about


def _given(options: dict[str, Any], size: int) -> tuple[np.ndarray, np.ndarray] | None:
    if all(options.get(name) is None for name in OPTIONS):
        return None
    try:
        low, high = (np.broadcast_to(np.asarray(options.get(name), np.float64), (size,)) for name in OPTIONS)
    except (TypeError, ValueError):
        low = high = np.full(size, np.nan)
    if not (np.isfinite(low) & np.isfinite(high) & (low < high)).all():
        raise ConfigurationError(
            f"action_low={options.get('action_low')!r} and action_high={options.get('action_high')!r} are no bounds: "
            f"expected both, each a number or {size} of them, low below high"
        )
    return low, high


def _few(values: np.ndarray) -> str:
    unique = np.unique(values)
    return f"{unique[0]:g}" if len(unique) == 1 else "[" + ", ".join(f"{one:g}" for one in values[:8]) + "]"
