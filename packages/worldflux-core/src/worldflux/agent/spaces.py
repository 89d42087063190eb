"""The spaces of an environment, kept as JSON, so that a trained model can act where no environment can be made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from worldflux.core.errors import CheckpointError
from worldflux.files import read_json, write_json

Spaces = tuple[Any, Any]  # of observations, of actions

FILE = "spaces.json"
_NUMBERS = {np.dtype(kind).name for kind in "?bhilqBHILQefd"}
_MAX_SIZE = 1 << 28  # numbers in one space: no observation has more


class Box(SimpleNamespace):
    """Numbers between ``low`` and ``high``, of a ``shape`` and a ``dtype``. The adapters need no more of a space."""


class Discrete(SimpleNamespace):
    """Whole numbers ``start`` to ``start + n - 1``."""


class MultiBinary(SimpleNamespace):
    """Zeros and ones of a ``shape``."""


class MultiDiscrete(SimpleNamespace):
    """Whole numbers, each with its ``nvec`` values from its ``start`` on."""


class Dict(SimpleNamespace):
    """``spaces`` by name."""


class Tuple(SimpleNamespace):
    """``spaces`` in order."""


_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Box, Discrete, MultiBinary, MultiDiscrete, Dict, Tuple)}


def kind_of(space: Any) -> str:
    """The name of a space's kind: Gymnasium's, ours, or one derived from them."""
    return next((cls.__name__ for cls in type(space).__mro__ if cls.__name__ in _KINDS), type(space).__name__)


def box(shape: tuple[int, ...], dtype: str, *, low: float = -math.inf, high: float = math.inf) -> Box:
    """Return a box with the same bounds everywhere."""
    return Box(shape=shape, dtype=np.dtype(dtype), low=np.full(shape, low), high=np.full(shape, high))


def spaces_of(env: Any) -> Spaces | None:
    """Return the spaces of one environment, those of one row of a vector of them, or None if it tells none."""
    for prefix in ("single_", ""):
        found = tuple(getattr(env, f"{prefix}{name}_space", None) for name in ("observation", "action"))
        if all(space is not None for space in found):
            return found[0], found[1]
    return None


def write_spaces(directory: Path, spaces: Spaces) -> None:
    """Keep spaces in a run's directory. Raises CheckpointError if it cannot be written.

    Those with a name that JSON cannot hold are not kept: an agent then asks the environment itself.
    """
    try:
        described = dict(zip(("observation", "action"), map(_described, spaces), strict=True))
    except TypeError:
        return
    write_json(directory / FILE, described)


def read_spaces(directory: Path) -> Spaces | None:
    """Return the spaces that are kept in a run's directory, or None. Raises CheckpointError if they are damaged."""
    if not (directory / FILE).is_file():
        return None
    stored = read_json(directory / FILE)
    try:
        return _space(stored["observation"]), _space(stored["action"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{directory / FILE} describes no spaces: {error!r}") from error


def _described(space: Any) -> dict[str, Any]:
    kind = kind_of(space)
    if kind == "Dict":
        return {"kind": kind, "spaces": [[_key(key), _described(child)] for key, child in space.spaces.items()]}
    if kind == "Tuple":
        return {"kind": kind, "spaces": [_described(child) for child in space.spaces]}
    if kind not in _KINDS:
        raise TypeError(f"a {kind} has no place in a fixed-size row")
    described = {"kind": kind, "shape": list(space.shape), "dtype": np.dtype(space.dtype).name}
    names = {"Box": ("low", "high"), "Discrete": ("n", "start"), "MultiDiscrete": ("nvec", "start")}.get(kind, ())
    return described | {name: _numbers(getattr(space, name)) for name in names}


def _numbers(values: Any) -> Any:
    """Numbers as JSON has them: one where all are equal, infinities as words."""
    flat = [float(x) if np.isfinite(x) else str(float(x)) for x in np.ravel(np.asarray(values, np.float64))]
    return flat[0] if flat and all(x == flat[0] for x in flat) else flat


def _space(stored: Mapping[str, Any]) -> Any:
    kind = stored["kind"]
    if kind == "Dict":
        return Dict(spaces={_key(key): _space(child) for key, child in stored["spaces"]})
    if kind == "Tuple":
        return Tuple(spaces=tuple(_space(child) for child in stored["spaces"]))
    if kind not in _KINDS or stored["dtype"] not in _NUMBERS:
        raise ValueError(f"{kind!r} of {stored['dtype']!r} is no space")
    shape, dtype = tuple(stored["shape"]), np.dtype(stored["dtype"])
    if not all(type(size) is int and 0 <= size <= _MAX_SIZE for size in shape) or math.prod(shape) > _MAX_SIZE:
        raise ValueError(f"{stored['shape']} is no shape")
    space = _KINDS[kind](shape=shape, dtype=dtype)
    if kind == "Box":
        exact = dtype.kind == "f" or dtype.itemsize < 8  # as numbers of 64 bits, whole ones may not be
        space.low, space.high = (
            _array(stored[name], shape).astype(dtype if exact else np.float64) for name in ("low", "high")
        )
    elif kind == "Discrete":
        space.n, space.start = (int(_array(stored[name], ())) for name in ("n", "start"))
    elif kind == "MultiDiscrete":
        space.nvec, space.start = (_array(stored[name], shape).astype(np.int64) for name in ("nvec", "start"))
    if kind in ("Discrete", "MultiDiscrete") and np.min(space.n if kind == "Discrete" else space.nvec) < 1:
        raise ValueError("a choice among nothing")
    return space


def _array(stored: Any, shape: tuple[int, ...]) -> np.ndarray:
    values = np.array([float(x) for x in (stored if isinstance(stored, list) else [stored])])
    return np.full(shape, values[0]) if len(values) == 1 else values.reshape(shape)


def _key(stored: Any) -> Any:
    if not isinstance(stored, (str, int)):
        raise TypeError(f"{stored!r} is no key")
    return stored
