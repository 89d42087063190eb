"""What a format's actions are: numbers in [-1, 1] or classes, as its space, the user or the data itself says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionPart, ActionSpec
from worldflux.words.counts import counted

from ...bounds import ActionBounds
from ...recording import damaged

#: Of every format with actions: what becomes -1 and 1; ``action_scale="minmax"``: the least and the greatest there are.
BOUNDS = ("action_low", "action_high", "action_scale")
#: Of every format that does not say what its actions are, on top: whether they choose among classes, and how many.
OPTIONS = (*BOUNDS, "num_actions", "discrete")
#: Whole numbers beyond so many are counts or positions, unless the user says that they are classes.
CLASSES = 1 << 10
MAX_CLASSES = 1 << 16

#: What to do about actions outside [-1, 1], without and with bounds.
WAY_OUT = (
    "the data says no bounds; action_low= and action_high=, or action_scale='minmax', scale them",
    "are the bounds the environment's?",
)

Span = Callable[[], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class ActionOptions:
    """What a user says of the actions. Raises ConfigurationError for options that do not go together."""

    action_low: Any = None
    action_high: Any = None
    action_scale: str | None = None
    num_actions: int | None = None
    discrete: bool | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> ActionOptions:
        """Take those of the actions out of a format's options."""
        return cls(**{name: options[name] for name in OPTIONS if name in options})

    def __post_init__(self) -> None:
        if (self.action_low is None) != (self.action_high is None):
            raise ConfigurationError("action_low and action_high go together, such as action_low=-2, action_high=2")
        if self.action_scale not in (None, "minmax"):
            raise ConfigurationError(f"action_scale is {self.action_scale!r}, expected 'minmax' or nothing")
        count = self.num_actions
        if count is not None and (type(count) is not int or not 2 <= count <= MAX_CLASSES):
            raise ConfigurationError(f"num_actions is {count!r}, expected how many classes there are, such as 6")
        if self.discrete not in (None, True, False):
            raise ConfigurationError(f"discrete is {self.discrete!r}, expected True or False")
        if count is not None and self.discrete is False:
            raise ConfigurationError("num_actions counts discrete actions, but discrete=False was given: leave one out")
        if sum((self.action_low is not None, self.action_scale is not None, bool(count or self.discrete))) > 1:
            raise ConfigurationError("give either action_low and action_high, or action_scale, or num_actions")

    @property
    def scales(self) -> bool:
        """Whether bounds are given, or asked for."""
        return self.action_low is not None or self.action_scale is not None

    def bounds(self, size: int, span: Span) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the bounds ``[size]`` that become -1 and 1, those of ``span`` for "minmax"; None without any.

        Raises ConfigurationError for bounds that are none.
        """
        if self.action_scale is not None:
            return span()
        if self.action_low is None:
            return None
        given = f"action_low={self.action_low!r} and action_high={self.action_high!r}"
        try:
            low, high = (
                np.broadcast_to(np.asarray(one, np.float64), (size,)) for one in (self.action_low, self.action_high)
            )
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{given} are no bounds of {counted(size, 'number')}: give one number each, or a list of as many"
            ) from error
        if not (np.isfinite(low) & np.isfinite(high) & (low < high)).all():
            raise ConfigurationError(f"{given} are no bounds: expected numbers, action_low must be below action_high")
        return low, high


@dataclass(frozen=True)
class Acted:
    """Actions float32 ``[rows, A]`` as the contract has them, their spec, remarks, and their bounds where known."""

    rows: np.ndarray
    spec: ActionSpec
    remarks: list[str] = field(default_factory=list)
    bounds: ActionBounds | None = None


def told_by_space(
    actions: np.ndarray, taken: np.ndarray, spec: ActionSpec, low: Any, high: Any, options: ActionOptions
) -> Acted:
    """Return flat actions ``[rows, A]`` whose space is known, scaled from its bounds or, if given, from the user's.

    ``taken`` ``[rows]`` tells the rows whose action somebody took, the others become 0. ``low`` and ``high`` ``[A]``
    are infinite where there is no bound; the user's are for the continuous components in their order.

    Raises ConfigurationError for bounds that are none.
    """
    continuous = np.zeros(spec.dim, bool)
    for part, where in spec.slices():
        continuous[where] = part.kind == "continuous"
    low, high = np.array(low, np.float64), np.array(high, np.float64)
    given = options.bounds(int(continuous.sum()), lambda: span_of(actions[:, continuous], taken))
    if given is not None:
        low[continuous], high[continuous] = given
    rows, remarks = scaled(actions, taken, low, high, continuous)
    return Acted(rows, spec, remarks, ActionBounds.of(low, high))


def told_by_data(
    actions: np.ndarray, taken: np.ndarray, options: ActionOptions, *, place: Path, span: Span | None = None
) -> Acted:
    """Return actions ``[rows, ...]`` as the user says they are, else as they look, which is said.

    One-hot vectors and whole numbers from 0 on are classes, one part for each column; everything else are numbers.
    ``taken`` ``[rows]`` tells the rows whose action somebody took, the others become 0; ``span`` gives the least and
    the greatest ``[A]`` for "minmax" where the format keeps them.

    Raises ConfigurationError for options that do not fit these actions, DatasetError naming ``place`` for none at all.
    """
    actions = actions.reshape(len(actions), -1)
    actions = actions.astype(np.int64) if actions.dtype.kind in "iub" else actions
    done, size = actions[taken], actions.shape[1]
    if not size:
        raise damaged(place, "the actions hold no numbers", way_out="action= names a column that does")
    remarks: list[str] = []
    if options.discrete is not False and not options.scales:
        if _is_one_hot(done) and options.num_actions in (None, size):
            guess = f"the actions are one-hot vectors, taken for choices among {size} classes; {_NUMBERS}"
            hot = np.where(taken[:, None], actions, 0).astype(np.float32)
            return Acted(hot, _discrete(size), [] if options.discrete or options.num_actions else [guess])
        if options.discrete or options.num_actions or actions.dtype.kind == "i":
            sizes = _sizes(done, options, actions.dtype)
            if sizes is not None:
                return _classes(actions, taken, sizes, options)
            remarks.append("the actions are whole numbers, but not classes counted from 0: they are read as numbers")
    bounds = options.bounds(size, span or (lambda: span_of(actions, taken)))
    low, high = (np.full(size, -np.inf), np.full(size, np.inf)) if bounds is None else bounds
    rows, said = scaled(actions, taken, low, high, np.ones(size, bool))
    return Acted(rows, ActionSpec("continuous", size), remarks + said, ActionBounds.of(low, high))


def scaled(
    actions: np.ndarray, taken: np.ndarray, low: np.ndarray, high: np.ndarray, continuous: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """Return actions ``[rows, A]`` in [-1, 1] and remarks, both by bounds that may be infinite."""
    bounded = np.isfinite(low) & np.isfinite(high) & (low < high)
    remarks: list[str] = []
    if (bounded & ((low != -1) | (high != 1))).any():
        remarks.append(scaling(low[bounded], high[bounded]))
    with np.errstate(over="ignore"):
        rows = np.where(taken[:, None], unit_actions(actions, low, high), np.float32(0))
    remarks += beyond(np.abs(rows[:, continuous]), int(taken.sum()), bool(bounded[continuous].all()))
    return rows, remarks


def scaling(low: np.ndarray, high: np.ndarray) -> str:
    """Say from which bounds actions are scaled."""
    return (
        f"actions are scaled to [-1, 1] from the bounds {_few(low)} to {_few(high)}, as an environment with these "
        "bounds takes them from a model"
    )


def beyond(sizes: np.ndarray, taken: int, bounded: bool) -> list[str]:
    """Say how many actions, ``sizes`` ``[rows, A]`` their components' without signs, lie outside [-1, 1]."""
    outside = sizes > 1 + 1e-4
    if not outside.any():
        return []
    some, parts = int(outside.any(1).sum()), counted(outside.shape[1], "component")
    return [
        f"{some} of {counted(taken, 'action')} {'lies' if some == 1 else 'lie'} outside [-1, 1] (up to "
        f"{sizes.max():.4g}), in {int(outside.any(0).sum())} of {parts}: {WAY_OUT[bounded]}"
    ]


def span_of(actions: np.ndarray, taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the greatest ``[A]`` of the actions that were taken."""
    done = actions[taken].astype(np.float64)
    return (done.min(0), done.max(0)) if len(done) else (np.full(actions.shape[1], -1.0), np.ones(actions.shape[1]))


_NUMBERS = "discrete=False reads numbers"


def _is_one_hot(done: np.ndarray) -> bool:
    if done.shape[1] < 2 or not len(done):
        return False
    return bool(((done == 0) | (done == 1)).all() and (done.sum(axis=1) == 1).all())


def _sizes(done: np.ndarray, options: ActionOptions, dtype: np.dtype) -> list[int] | None:
    """How many classes each column chooses among; None for numbers that nobody said to be classes."""
    least, most = (float(one(initial=0)) for one in (done.min, done.max))
    sizes = [max(2, int(min(one, MAX_CLASSES)) + 1) for one in done.max(axis=0, initial=0)]
    asked = options.num_actions or options.discrete
    whole = bool((done == np.rint(done)).all()) and least >= 0
    if options.num_actions is not None and len(sizes) == 1:
        whole, sizes = whole and most < options.num_actions, [options.num_actions]
    elif options.num_actions is not None:
        whole = False
    if whole and sum(sizes) <= (MAX_CLASSES if asked else CLASSES):
        return sizes
    if not asked:
        return None
    given = f"num_actions is {options.num_actions}" if options.num_actions else "discrete=True was given"
    raise ConfigurationError(
        f"{given}, but the actions are {dtype}[{done.shape[1]}] from {least:g} to {most:g}: expected one whole number "
        "a row, counted from 0"
    )


def _classes(actions: np.ndarray, taken: np.ndarray, sizes: list[int], options: ActionOptions) -> Acted:
    index = np.where(taken[:, None], actions, 0)
    hot = np.concatenate([one_hot(index[:, i], size) for i, size in enumerate(sizes)], axis=1)
    rows = hot * taken[:, None].astype(np.float32)
    if len(sizes) == 1:
        said = (
            f"the actions are whole numbers, taken for {counted(sizes[0], 'class', 'classes')}, as many as occur; "
            "num_actions= says if "
            f"there are more, {_NUMBERS}"
        )
        return Acted(rows, _discrete(sizes[0]), [] if options.num_actions else [said])
    digits = len(str(len(sizes) - 1))  # sorted by name, so that the parts keep their order
    parts = tuple(ActionPart(f"action/{i:0{digits}d}", "discrete", size) for i, size in enumerate(sizes))
    said = f"the actions are whole numbers, taken for parts of {sizes} classes, by the largest that occur; {_NUMBERS}"
    return Acted(rows, ActionSpec("multi", parts=parts), [said])


def _discrete(count: int) -> ActionSpec:
    return ActionSpec("discrete", count, discrete=True, num_actions=count)


def _few(values: np.ndarray) -> str:
    unique = np.unique(values)
    return f"{unique[0]:g}" if len(unique) == 1 else "[" + ", ".join(f"{one:g}" for one in values[:8]) + "]"


def one_hot(indices: np.ndarray, size: int) -> np.ndarray:
    """Return whole numbers below ``size`` as float32 one-hot vectors ``[..., size]``.

    The caller has checked their range.
    """
    out = np.zeros((*np.shape(indices), size), np.float32)
    np.put_along_axis(out, np.asarray(indices, np.int64)[..., None], 1, axis=-1)
    return out


def unit_actions(actions: np.ndarray, low: Any, high: Any) -> np.ndarray:
    """Return continuous actions in [-1, 1], as an environment with these bounds takes them from a model; float32.

    Components without finite bounds stay as they are.
    """
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    bounded = np.isfinite(low) & np.isfinite(high) & (low < high)
    low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
    if (low == -1).all() and (high == 1).all():
        return np.asarray(actions, np.float32)
    return (2 * (np.asarray(actions, np.float64) - low) / (high - low) - 1).astype(np.float32)
