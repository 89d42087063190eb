"""Gymnasium spaces in the contract's terms: named modalities for observations, one flat vector for actions.

Spaces are told apart by their class names and read through their attributes, so this file needs no Gymnasium.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError, ShapeMismatchError, ValidationError
from worldflux.core.spec import ActionPart, ActionSpec, ModalityKind, ModalitySpec

SUPPORTED = "Box, Discrete, MultiBinary, MultiDiscrete, Dict and Tuple"
UNBOUNDED = 1e10  # what MuJoCo says where a control has no limit
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class _Leaf:
    """A space without children, and the way to it through nested dicts and tuples."""

    path: tuple[Any, ...]
    space: Any

    def value(self, nested: Any) -> Any:
        for key in self.path:
            nested = nested[key]
        return nested

    @property
    def name(self) -> str:
        return "/".join(str(key) for key in self.path)


def _kind(space: Any) -> str:
    known = ("Box", "Discrete", "MultiBinary", "MultiDiscrete", "Dict", "Tuple")
    return next((cls.__name__ for cls in type(space).__mro__ if cls.__name__ in known), type(space).__name__)


def _leaves(space: Any, path: tuple[Any, ...] = ()) -> Iterator[_Leaf]:
    kind = _kind(space)
    if kind in ("Dict", "Tuple"):
        children = space.spaces.items() if kind == "Dict" else enumerate(space.spaces)
        for key, child in children:
            yield from _leaves(child, (*path, key))
    elif kind in ("Box", "Discrete", "MultiBinary", "MultiDiscrete"):
        yield _Leaf(path, space)
    else:
        where = f" at {'/'.join(map(str, path))!r}" if path else ""
        raise ConfigurationError(
            f"the space {space}{where} has no place in a fixed-size row; supported are {SUPPORTED}: "
            "wrap the environment to give one of these"
        )


def _named_leaves(space: Any, alone: str) -> dict[str, _Leaf]:
    found: dict[str, _Leaf] = {}
    for leaf in _leaves(space):
        if leaf.name in found:
            raise ConfigurationError(f"two entries of the space {space} come to the name {leaf.name!r}: rename one")
        found[leaf.name or alone] = leaf
    if not found:
        raise ConfigurationError(f"the space {space} is empty")
    return found


# -- observations ------------------------------------------------------------------------------------------------------


class ObservationAdapter:
    """Turns an environment's observations into arrays by name.

    Images (uint8, two or three axes) become ``[C, H, W]`` uint8; every other box is flattened to a float32 vector;
    discrete values become one-hot vectors. A lone space is called ``"obs"``, nested ones ``"outer/inner"``.

    Raises:
        ConfigurationError: a space that is not supported, or two entries that come to the same name.
    """

    def __init__(self, space: Any) -> None:
        self._leaves = _named_leaves(space, "obs")
        self._encode: dict[str, Callable[[Any], np.ndarray]] = {}
        self.spec: dict[str, ModalitySpec] = {}
        for name, leaf in self._leaves.items():
            self.spec[name], self._encode[name] = _observe(name, leaf.space)

    def __call__(self, observations: Sequence[Any]) -> dict[str, np.ndarray]:
        """Return the observations of N environments as arrays ``[N, …]``.

        Raises:
            ShapeMismatchError, ValidationError: an environment gave what its space does not announce.
        """
        out = {}
        for name, leaf in self._leaves.items():
            spec = self.spec[name]
            rows = np.empty((len(observations), *spec.shape), spec.dtype)
            for i, nested in enumerate(observations):
                rows[i] = self._row(i, name, leaf, nested)
            out[name] = rows
        return out

    def _row(self, i: int, name: str, leaf: _Leaf, nested: Any) -> np.ndarray:
        try:
            value = np.asarray(leaf.value(nested))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValidationError(f"environment {i} gave no observation {name!r}: {error!r}") from error
        expected = tuple(leaf.space.shape)
        if value.shape != expected:
            raise ShapeMismatchError(
                f"environment {i}: observation {name!r} is not of its space", expected=expected, got=value.shape
            )
        if not np.can_cast(value.dtype, leaf.space.dtype, "same_kind"):
            raise ValidationError(
                f"environment {i}: observation {name!r} has dtype {value.dtype}, its space says {leaf.space.dtype}"
            )
        return self._encode[name](value)


def _observe(name: str, space: Any) -> tuple[ModalitySpec, Callable[[Any], np.ndarray]]:
    kind, shape = _kind(space), tuple(space.shape or ())
    if kind == "Box" and space.dtype == np.uint8 and len(shape) in (2, 3):
        layout, to_chw = _image_layout(shape)
        return ModalitySpec(ModalityKind.IMAGE, layout, "uint8", "CHW", name), to_chw
    if kind == "Discrete":
        encode = lambda value: _one_hot(np.asarray(value).reshape(1) - space.start, [int(space.n)])
        size = int(space.n)
    elif kind == "MultiDiscrete":
        sizes = [int(n) for n in np.ravel(space.nvec)]
        start = np.ravel(space.start)
        encode = lambda value: _one_hot(np.ravel(value) - start, sizes)
        size = sum(sizes)
    else:
        encode = lambda value: np.asarray(value, np.float32).ravel()
        size = int(np.prod(shape))
    return ModalitySpec(ModalityKind.VECTOR, (size,), "float32", None, name), encode


def _image_layout(shape: tuple[int, ...]) -> tuple[tuple[int, ...], Callable[[np.ndarray], np.ndarray]]:
    if len(shape) == 2:
        return (1, *shape), lambda image: image[None]
    if shape[-1] in _CHANNELS or (shape[0] not in _CHANNELS and shape[-1] <= shape[0]):  # stacked frames: the few
        return (shape[2], shape[0], shape[1]), lambda image: image.transpose(2, 0, 1)
    return shape, lambda image: image


def _one_hot(indices: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    out = np.zeros(sum(sizes), np.float32)
    start = 0
    for index, size in zip(indices.tolist(), sizes, strict=True):
        if not 0 <= index < size:
            raise ValidationError(f"the discrete value {index} is outside its space of {size} values")
        out[start + index] = 1
        start += size
    return out


# -- actions -----------------------------------------------------------------------------------------------------------


class ActionAdapter:
    """Turns flat action vectors into an environment's actions.

    Discrete parts are one-hot (the largest entry is taken), continuous ones are clipped to [-1, 1] and scaled to
    their bounds.

    Raises:
        ConfigurationError: a space that is not supported, a continuous one without finite bounds (there is nothing to
            scale to), or two entries that come to the same name.
    """

    def __init__(self, space: Any) -> None:
        leaves = list(_named_leaves(space, "action").values())
        pieces = [piece for leaf in leaves for piece in _pieces(leaf)]
        pieces.sort(key=lambda piece: piece[0].name)
        single = len(pieces) == 1 and not leaves[0].path and _kind(space) in ("Box", "Discrete")
        self.spec = _simple_spec(pieces[0][0]) if single else ActionSpec("multi", parts=tuple(p for p, _, _ in pieces))
        self._space = space
        self._decoders: dict[tuple[Any, ...], list[tuple[slice, Callable[[np.ndarray], np.ndarray]]]] = {}
        start = 0
        for part, leaf, decode in pieces:
            where = slice(start, start + part.dim)
            self._decoders.setdefault(leaf.path, []).append((where, decode))
            start += part.dim

    def __call__(self, flat: np.ndarray) -> Any:
        """Return the environment's action for one flat vector ``[A]``."""
        return self._build(self._space, (), flat)

    def check(self, actions: Any, num: int) -> np.ndarray:
        """Return flat actions ``[num, A]`` as float32 numpy. Raises ShapeMismatchError or ValidationError."""
        array = np.asarray(actions)
        if array.shape != (num, self.spec.dim):
            hint = ""
            if self.spec.discrete and array.shape == (num,):
                hint = "; actions are one-hot here, not class indices"
            raise ShapeMismatchError(f"wrong action{hint}", expected=(num, self.spec.dim), got=array.shape)
        if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
            raise ValidationError(f"actions must be finite numbers, got {array.dtype} {array.tolist()}")
        return array.astype(np.float32, copy=False)

    def _build(self, space: Any, path: tuple[Any, ...], flat: np.ndarray) -> Any:
        kind = _kind(space)
        if kind == "Dict":
            return {key: self._build(child, (*path, key), flat) for key, child in space.spaces.items()}
        if kind == "Tuple":
            return tuple(self._build(child, (*path, i), flat) for i, child in enumerate(space.spaces))
        values = [decode(flat[where]) for where, decode in self._decoders[path]]
        if kind == "Discrete":
            return space.dtype.type(values[0] + space.start)
        if kind == "Box":
            return values[0].reshape(space.shape).astype(space.dtype)
        array = np.array(values, space.dtype).reshape(space.shape)
        return array + space.start if kind == "MultiDiscrete" else array


def _simple_spec(part: ActionPart) -> ActionSpec:
    if part.kind == "discrete":
        return ActionSpec("discrete", part.dim, discrete=True, num_actions=part.dim)
    return ActionSpec("continuous", part.dim)


def _pieces(leaf: _Leaf) -> list[tuple[ActionPart, _Leaf, Callable[[np.ndarray], Any]]]:
    kind, name = _kind(leaf.space), leaf.name or "action"
    if kind == "Box":
        return [(ActionPart(name, "continuous", int(np.prod(leaf.space.shape))), leaf, _scaler(leaf))]
    if kind == "Discrete":
        return [(ActionPart(name, "discrete", int(leaf.space.n)), leaf, np.argmax)]
    sizes = np.ravel(leaf.space.nvec) if kind == "MultiDiscrete" else np.full(int(np.prod(leaf.space.shape)), 2)
    width = len(str(len(sizes) - 1))  # padded, so that sorting the names keeps the order
    return [(ActionPart(f"{name}/{i:0{width}d}", "discrete", int(n)), leaf, np.argmax) for i, n in enumerate(sizes)]


def _scaler(leaf: _Leaf) -> Callable[[np.ndarray], np.ndarray]:
    space = leaf.space
    low, high = np.ravel(space.low).astype(np.float64), np.ravel(space.high).astype(np.float64)
    if not (np.maximum(-low, high) < UNBOUNDED).all():  # false for NaN, too
        where = f" at {leaf.name!r}" if leaf.name else ""
        raise ConfigurationError(
            f"the action space {space}{where} has no finite bounds, but actions are numbers in [-1, 1], scaled to "
            "them: give it the bounds that make sense, as in gymnasium.wrappers.TransformAction(env, lambda a: a, "
            "Box(-2, 2, (3,)))"
        )
    whole = space.dtype.kind in "iu"

    def scale(flat: np.ndarray) -> np.ndarray:
        scaled = low + (np.clip(flat.astype(np.float64), -1, 1) + 1) / 2 * (high - low)
        return np.rint(scaled) if whole else scaled

    return scale


def spec_summary(spec: Mapping[str, ModalitySpec]) -> str:
    """Return a spec as a short text, for messages: ``obs float32(4,)``."""
    return ", ".join(f"{name} {one.dtype}{one.shape}" for name, one in spec.items())
