"""Spaces as Minari writes them (JSON), and their values in the contract's terms: many rows at a time.

The classes are called what Gymnasium calls them, which is all that the environments' adapters ask of a space.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.envs.spaces import UNBOUNDED, ActionAdapter, ObservationAdapter
from worldflux.words.counts import counted

from ..common.actions import one_hot
from ..common.images import as_images

Fail = Callable[[str, "int | None"], NoReturn]  # what is wrong, and in which row, if in one

_CLASSES = 1 << 16
_INT64, _INT8 = np.dtype(np.int64), np.dtype(np.int8)


@dataclass
class Box:
    """Numbers between bounds."""

    shape: tuple[int, ...]
    dtype: np.dtype
    low: np.ndarray
    high: np.ndarray


@dataclass
class Discrete:
    """One of ``n`` whole numbers from ``start`` on."""

    n: int
    start: int
    shape: tuple[int, ...] = ()
    dtype: np.dtype = _INT64


@dataclass
class MultiDiscrete:
    """Several of them."""

    nvec: np.ndarray
    start: np.ndarray
    shape: tuple[int, ...]
    dtype: np.dtype


@dataclass
class MultiBinary:
    """Several yes or no."""

    n: Any
    shape: tuple[int, ...]
    dtype: np.dtype = _INT8


class Dict:
    """Spaces by name."""

    def __init__(self, spaces: Mapping[str, Any]) -> None:
        self.spaces = dict(spaces)


@dataclass
class Leaf:
    """A space without children; ``path`` leads to it: names, and numbers where it is inside a tuple."""

    path: tuple[str | int, ...]
    space: Any

    @property
    def name(self) -> str:
        """As the environments' adapters call it; empty for a lone space."""
        return "/".join(map(str, self.path))


def leaves_of(given: Any, path: tuple[str | int, ...] = ()) -> tuple[list[Leaf], list[str]]:
    """Return the leaves of a space written as JSON, and the names of those that have no place in a row (text).

    Raises ValueError for what is no space.
    """
    if not isinstance(given, dict) or not isinstance(given.get("type"), str):
        raise ValueError(f"{given!r:.80} is no space")
    kind = given["type"]
    if kind in ("Dict", "Tuple"):
        inside = given.get("subspaces")
        if not isinstance(inside, dict if kind == "Dict" else list):
            raise ValueError(f"a {kind} has no subspaces")
        found: list[Leaf] = []
        dropped: list[str] = []
        for key, child in inside.items() if isinstance(inside, dict) else enumerate(inside):
            more, less = leaves_of(child, (*path, key))
            found, dropped = found + more, dropped + less
        return found, dropped
    if kind not in _READERS:
        return [], [f"{'/'.join(map(str, path)) or 'it'} ({kind})"]
    try:
        return [Leaf(path, _READERS[kind](given))], []
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"the {kind} at {'/'.join(map(str, path))!r} is not readable: {error!r}") from error


def _box(given: Mapping[str, Any]) -> Box:
    dtype, shape = _dtype(given["dtype"]), _shape(given["shape"])
    bounds = [np.asarray(given[name]).astype(dtype) for name in ("low", "high")]
    if any(bound.shape != shape for bound in bounds):
        raise ValueError(f"the bounds of a Box have shapes {[b.shape for b in bounds]}, it has {shape}")
    return Box(shape, dtype, bounds[0], bounds[1])


def _discrete(given: Mapping[str, Any]) -> Discrete:
    if (n := _whole(given["n"], 1)) > _CLASSES:
        raise ValueError(f"a Discrete of {counted(n, 'value')} has no room in a row")
    return Discrete(n, _whole(given.get("start", 0), -(2**60)))


def _multi_discrete(given: Mapping[str, Any]) -> MultiDiscrete:
    sizes = np.asarray(given["nvec"], np.int64)
    start = np.asarray(given.get("start", np.zeros_like(sizes)), np.int64)
    if sizes.shape != start.shape or not sizes.size or sizes.min() < 1 or sizes.sum() > _CLASSES:
        raise ValueError("a MultiDiscrete has no sizes that fit")
    return MultiDiscrete(sizes, start, sizes.shape, _dtype(given.get("dtype", "int64")))


def _multi_binary(given: Mapping[str, Any]) -> MultiBinary:
    n = given["n"]
    return MultiBinary(n, _shape(n if isinstance(n, list) else [n]))


_READERS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "Box": _box,
    "Discrete": _discrete,
    "MultiDiscrete": _multi_discrete,
    "MultiBinary": _multi_binary,
}


def _dtype(name: Any) -> np.dtype:
    dtype = np.dtype(str(name))
    if dtype.kind not in "biuf":
        raise ValueError(f"a space of {dtype}, expected numbers")
    return dtype


def _shape(given: Any) -> tuple[int, ...]:
    shape = tuple(_whole(size, 0) for size in given)
    if math.prod(shape) > 2**28 or len(shape) > 8:
        raise ValueError(f"a space of shape {shape}")
    return shape


def _whole(value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**60:
        raise ValueError(f"{value!r} is no whole number of at least {least}")
    return value


# -- observations ------------------------------------------------------------------------------------------------------


def observation_specs(leaves: list[Leaf]) -> dict[str, ModalitySpec]:
    """Return the specs by name of observation leaves with numbers, as an environment's adapter states them."""
    return dict(ObservationAdapter(_joined(leaves)).spec)


def named(leaves: list[Leaf], alone: str) -> dict[str, Leaf]:
    """Return the leaves that have numbers by the adapters' names for them."""
    return {leaf.name or alone: leaf for leaf in leaves if math.prod(leaf.space.shape)}


def _joined(leaves: list[Leaf]) -> Any:
    if len(leaves) == 1 and not leaves[0].path:
        return leaves[0].space
    return Dict({leaf.name: leaf.space for leaf in leaves})


def is_picture(space: Any) -> bool:
    """Tell whether the environments' adapter makes an image of it."""
    return isinstance(space, Box) and space.dtype in (np.uint8, np.uint16) and len(space.shape) in (2, 3)


def pictures(space: Box, rows: np.ndarray) -> np.ndarray:
    """Return rows ``[n, *shape]`` of a picture space as uint8 ``[n, C, H, W]``; of 16 bits 256 levels of its range."""
    if space.dtype == np.uint16:
        low, high = float(space.low.min()), float(space.high.max())
        rows = np.rint((rows.astype(np.float64) - low) * (255 / max(1.0, high - low))).clip(0, 255).astype(np.uint8)
    return as_images(rows, space.shape)


def vectors(space: Any, values: np.ndarray, fail: Fail) -> np.ndarray:
    """Return rows of a space that is no picture as float32 ``[n, D]``; ``fail`` raises for a row that is not of it."""
    values = fitting(space, values, fail)
    if isinstance(space, (Discrete, MultiDiscrete)):
        return np.concatenate(_one_hots(space, values, fail), axis=1)
    with np.errstate(over="ignore"):  # what overflows is infinite and refused by who looks for that
        return values.reshape(len(values), -1).astype(np.float32)


def fitting(space: Any, values: np.ndarray, fail: Fail) -> np.ndarray:
    """Return ``values`` as ``[n, *shape]`` where their shape and dtype are a space's; ``fail`` raises otherwise."""
    shape, size = tuple(space.shape), math.prod(space.shape)
    if values.ndim == 0 or (values.shape[1:] != shape and math.prod(values.shape[1:]) != size):
        fail(f"has rows of shape {values.shape[1:]}, its space says {shape}", None)
    if not np.can_cast(values.dtype, space.dtype, "same_kind") and values.dtype.kind != "b":
        fail(f"has dtype {values.dtype}, its space says {space.dtype}", None)
    return values.reshape(len(values), *shape)


def _one_hots(space: Any, values: np.ndarray, fail: Fail) -> list[np.ndarray]:
    sizes = [space.n] if isinstance(space, Discrete) else [int(n) for n in np.ravel(space.nvec)]
    values = values.reshape(len(values), len(sizes)).astype(np.int64) - np.ravel(space.start)
    wrong = ((values < 0) | (values >= sizes)).any(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        fail(f"is {values[row].tolist()} counted from its start, outside a space of {sizes} values", row)
    return [one_hot(values[:, i], n) for i, n in enumerate(sizes)]


# -- actions -----------------------------------------------------------------------------------------------------------


@dataclass
class Actions:
    """How values of action leaves become flat actions, in the order of an environment's adapter."""

    leaves: dict[str, Leaf]
    spec: ActionSpec
    low: np.ndarray  # [A], -inf where there is no bound, and for discrete parts
    high: np.ndarray

    @classmethod
    def of(cls, leaves: list[Leaf]) -> Actions:
        """Build from the leaves of the action space. Raises ConfigurationError for a space that holds no numbers."""
        bounded = [Leaf(leaf.path, _bounded(leaf.space)) for leaf in leaves]
        spec = ActionAdapter(_joined(bounded)).spec
        low, high = np.full(spec.dim, -np.inf), np.full(spec.dim, np.inf)
        boxes = {name: leaf.space for name, leaf in named(leaves, "action").items() if isinstance(leaf.space, Box)}
        for part, where in spec.slices():
            if part.kind == "continuous":
                low[where], high[where] = (np.ravel(getattr(boxes[part.name], side)) for side in ("low", "high"))
        free = ~((low > -UNBOUNDED) & (high < UNBOUNDED))
        low[free], high[free] = -np.inf, np.inf
        return cls(named(leaves, "action"), spec, low, high)

    def flat(self, values: Mapping[str, np.ndarray], fail: Fail) -> np.ndarray:
        """Return values ``[n, ...]`` by leaf name as ``[n, A]``, continuous parts in their own units."""
        pieces: dict[str, np.ndarray] = {}
        for name, leaf in self.leaves.items():
            rows = fitting(leaf.space, values[name], fail)
            if isinstance(leaf.space, (Box, Discrete)):
                pieces[name] = vectors(leaf.space, rows, fail)
                continue
            binary = isinstance(leaf.space, MultiBinary)
            space = MultiDiscrete(
                np.full(leaf.space.shape, 2), np.zeros(leaf.space.shape, int), rows.shape[1:], rows.dtype
            )
            parts = _one_hots(space if binary else leaf.space, rows, fail)
            width = len(str(len(parts) - 1))  # padded, as the environments' adapter does
            pieces |= {f"{name}/{i:0{width}d}": part for i, part in enumerate(parts)}
        return np.concatenate([pieces[part.name] for part in self.spec.leaves()], axis=1)


def _bounded(space: Any) -> Any:
    """A stand-in that the adapter accepts: where a box has no bounds, ours are open."""
    if not isinstance(space, Box):
        return space
    shape = space.shape
    return Box(shape, np.dtype(np.float32), np.full(shape, -1, np.float32), np.full(shape, 1, np.float32))
