"""The actions of formats that state no bounds: raw, unless whoever reads them says how they were meant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionSpec

from .shaping import one_hot, unit_actions

#: ``action_low`` and ``action_high`` become -1 and 1; ``action_scale="minmax"`` takes the least and the greatest that
#: the set says it has; ``num_actions`` says that the one number of a row is the index of a class.
OPTIONS = ("action_low", "action_high", "action_scale", "num_actions")
MAX_CLASSES = 1 << 16


def check_options(options: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for options of actions that are none, or do not go together."""
    low, high, scale, count = (options.get(name) for name in OPTIONS)
    if (low is None) != (high is None):
        raise ConfigurationError("action_low and action_high belong together: give both or neither")
    if scale not in (None, "minmax"):
        raise ConfigurationError(f"action_scale is {scale!r}, expected 'minmax' or nothing")
    if count is not None and (type(count) is not int or not 2 <= count <= MAX_CLASSES):
        raise ConfigurationError(f"num_actions is {count!r}, expected the number of classes, from 2 on")
    if sum(one is not None for one in (low, scale, count)) > 1:
        raise ConfigurationError("give either action_low and action_high, or action_scale, or num_actions")


def recorded(
    actions: np.ndarray,
    taken: np.ndarray,
    options: Mapping[str, Any],
    *,
    span: Callable[[], tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, ActionSpec, list[str], dict[str, Any]]:
    """Return actions ``[rows, A]`` as the contract has them, their spec, remarks, and what goes into the provenance.

    ``taken`` ``[rows]`` tells the rows whose action somebody took, the others become 0; ``span`` gives the least and
    the greatest ``[A]`` for "minmax". A single column of an integer dtype holds classes.

    Raises ConfigurationError for options that do not fit these actions.
    """
    size = actions.shape[1]
    if options.get("num_actions") is not None or (actions.dtype.kind in "iu" and size == 1):
        return _classes(actions, taken, options.get("num_actions"))
    remarks: list[str] = []
    about: dict[str, Any] = {}
    flat = actions.astype(np.float32)
    if options.get("action_scale") or options.get("action_low") is not None:
        low, high = span() if options.get("action_scale") else _bounds(options, size)
        flat = unit_actions(flat, low, high)
        about["action_bounds"] = {"low": np.asarray(low).tolist(), "high": np.asarray(high).tolist()}
    flat = np.where(taken[:, None], flat, np.float32(0))
    outside = np.abs(flat) > 1 + 1e-4
    if outside.any():
        remarks.append(
            f"{int(outside.any(1).sum())} of {int(taken.sum())} actions lie outside [-1, 1] (up to "
            f"{np.abs(flat).max():.4g}), in {int(outside.any(0).sum())} of {size} components: the data says no bounds; "
            "action_low= and action_high=, or action_scale='minmax', scale them"
        )
    return flat, ActionSpec("continuous", size), remarks, about


def _classes(
    actions: np.ndarray, taken: np.ndarray, count: int | None
) -> tuple[np.ndarray, ActionSpec, list[str], dict[str, Any]]:
    there = actions[taken]
    least, most = there.min(initial=0), there.max(initial=0)
    size = int(min(most, MAX_CLASSES)) + 1 if count is None else count
    if there.shape[1] != 1 or (there != np.rint(there)).any() or least < 0 or most >= min(size, MAX_CLASSES):
        raise ConfigurationError(
            f"{'whole numbers are' if count is None else f'num_actions={count} asks for'} classes: one of 0 to "
            f"{size - 1} a row, the actions have {there.shape[1]} components from {least:g} to {most:g}"
        )
    remarks = []
    if count is None:
        remarks.append(f"actions are whole numbers, taken for {size} classes, as many as occur; num_actions= says more")
    hot = one_hot(np.where(taken, actions[:, 0], 0), size) * taken[:, None].astype(np.float32)
    return hot, ActionSpec("discrete", size, True, size), remarks, {}


def _bounds(options: Mapping[str, Any], size: int) -> tuple[np.ndarray, np.ndarray]:
    given = options["action_low"], options["action_high"]
    try:
        low, high = (np.broadcast_to(np.asarray(one, np.float64), (size,)) for one in given)
    except (TypeError, ValueError):
        low = high = np.full(size, np.nan)
    if not (np.isfinite(low) & np.isfinite(high) & (low < high)).all():
        raise ConfigurationError(
            f"action_low={given[0]!r} and action_high={given[1]!r} are no bounds: expected both, each a number or "
            f"{size} of them, low below high"
        )
    return low, high
