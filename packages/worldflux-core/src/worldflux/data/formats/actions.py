"""What a format's actions are: indices, one-hot vectors or numbers, told by the data where nobody says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionPart, ActionSpec

from ..recording import DatasetError
from .shaping import one_hot, unit_actions

#: The options of every format whose files do not say what an action is.
OPTIONS = ("discrete", "num_actions", "action_low", "action_high")


@dataclass(frozen=True)
class ActionOptions:
    """What a user says of the actions: whether they choose among classes, how many, or the bounds of the numbers."""

    discrete: bool | None = None
    num_actions: int | None = None
    action_low: Any = None
    action_high: Any = None

    def __post_init__(self) -> None:
        if self.discrete not in (None, True, False):
            raise ConfigurationError(f"discrete is {self.discrete!r}, expected True or False")
        count = self.num_actions
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            raise ConfigurationError(f"num_actions is {count!r}, expected how many there are, such as 6")
        if count is not None and self.discrete is False:
            raise ConfigurationError("num_actions counts discrete actions, but discrete=False was given: leave one out")
        if (self.action_low is None) != (self.action_high is None):
            raise ConfigurationError("action_low and action_high go together, such as action_low=-2, action_high=2")


def flat_actions(
    actions: np.ndarray, taken: np.ndarray, options: ActionOptions
) -> tuple[np.ndarray, ActionSpec, list[str]]:
    """Return actions ``[rows, ...]`` as float32 ``[rows, A]``, what they are, and what there is to say about it.

    ``taken [rows]`` tells which were done: the others are fillers. Raises DatasetError for indices that are none, and
    ConfigurationError for options that do not fit.
    """
    actions = actions.reshape(len(actions), -1)
    width = actions.shape[1]
    if not width:
        raise DatasetError("the actions hold no numbers: there is nothing that was decided")
    done = actions[taken]
    if options.discrete is not False and _is_one_hot(done):
        if options.num_actions not in (None, width):
            raise ConfigurationError(
                f"num_actions is {options.num_actions}, but the actions are one-hot of {width}: give the right one"
            )
        return actions.astype(np.float32), _discrete(width), []
    whole = actions.dtype.kind in "iub"
    if options.discrete or (options.discrete is None and whole) or options.num_actions is not None:
        return _indices(actions, taken, options)
    return _numbers(actions, done, options)


def _is_one_hot(done: np.ndarray) -> bool:
    if done.shape[1] < 2 or not len(done):
        return False
    return bool(((done == 0) | (done == 1)).all() and (done.sum(axis=1) == 1).all())


def _discrete(count: int) -> ActionSpec:
    return ActionSpec("discrete", count, discrete=True, num_actions=count)


def _indices(
    actions: np.ndarray, taken: np.ndarray, options: ActionOptions
) -> tuple[np.ndarray, ActionSpec, list[str]]:
    done = actions[taken].astype(np.float64)
    if not (done == np.floor(done)).all() or done.min(initial=0) < 0:
        bad = done[(done != np.floor(done)) | (done < 0)][0]
        raise DatasetError(f"an action is {bad:g}, expected the index of a class, from 0; discrete=False reads numbers")
    sizes = [int(most) + 1 for most in done.max(axis=0, initial=0)]
    said = [
        f"the actions are indices, the largest {sizes[0] - 1}, so there are {sizes[0]}: num_actions= says otherwise"
    ]
    if len(sizes) > 1:
        said = [f"the actions are indices into parts of {sizes} classes, by the largest that occur"]
    if options.num_actions is not None:
        if len(sizes) > 1 or sizes[0] > options.num_actions:
            raise ConfigurationError(
                f"num_actions is {options.num_actions}, but the actions are indices below {sizes}: give the right one"
            )
        sizes, said = [options.num_actions], []
    if sum(sizes) > 1 << 16:
        raise DatasetError(f"the actions are indices up to {max(sizes) - 1}: are they numbers? discrete=False says so")
    valid = taken | ((actions >= 0) & (actions < sizes) & (actions == np.floor(actions))).all(
        axis=1
    )  # some fillers are
    parts = [one_hot(np.where(valid, actions[:, i], 0), size) for i, size in enumerate(sizes)]
    flat = np.concatenate(parts, axis=1) * valid[:, None].astype(np.float32)
    digits = len(str(len(sizes) - 1))  # sorted by name, so that the parts keep their order
    names = [ActionPart(f"action/{i:0{digits}d}", "discrete", size) for i, size in enumerate(sizes)]
    return flat, _discrete(sizes[0]) if len(sizes) == 1 else ActionSpec("multi", parts=tuple(names)), said


def _numbers(actions: np.ndarray, done: np.ndarray, options: ActionOptions) -> tuple[np.ndarray, ActionSpec, list[str]]:
    width, spec = actions.shape[1], ActionSpec("continuous", actions.shape[1])
    if options.action_low is None:
        flat, way_out = actions.astype(np.float32), "action_low= and action_high= give the environment's bounds"
    else:
        try:
            bounds = [
                np.broadcast_to(np.asarray(one, np.float64), (width,))
                for one in (options.action_low, options.action_high)
            ]
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"action_low={options.action_low!r} and action_high={options.action_high!r} are no bounds of {width} "
                "numbers: give one number each, or a list of as many"
            ) from error
        if not (bounds[0] < bounds[1]).all():
            raise ConfigurationError(f"action_low {bounds[0].tolist()} must be below action_high {bounds[1].tolist()}")
        flat, way_out = unit_actions(actions, *bounds), "are action_low and action_high the environment's bounds?"
        done = unit_actions(done, *bounds)
    low, high = float(done.min(initial=0)), float(done.max(initial=0))
    if low < -1.0001 or high > 1.0001:
        return flat, spec, [f"the actions reach from {low:g} to {high:g}, a model acts in [-1, 1]: {way_out}"]
    return flat, spec, []
