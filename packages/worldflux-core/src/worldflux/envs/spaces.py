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
from worldflux.words.counts import counted

from .pixels import resize

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


def kind_of(space: Any) -> str:
    """Return the name of a space's kind: one of Gymnasium's, or one derived from them."""
    known = ("Box", "Discrete", "MultiBinary", "MultiDiscrete", "Dict", "Tuple")
    return next((cls.__name__ for cls in type(space).__mro__ if cls.__name__ in known), type(space).__name__)


def _leaves(space: Any, path: tuple[Any, ...] = ()) -> Iterator[_Leaf]:
    kind = kind_of(space)
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


def _size(space: Any) -> int:
    """How many numbers a leaf's value has."""
    return int(np.prod(space.shape or ()))


def as_array(value: Any) -> np.ndarray:
    """Return numbers as numpy's, also those of a tensor that is on a GPU or has a gradient."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


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

    Images (uint8 or uint16, two or three axes) become ``[C, H, W]`` uint8: of 16 bits those above the space's bounds'
    256 levels, and ``image_size`` pixels a side where that is given. Every other box is flattened to a float32 vector;
    discrete values become one-hot vectors; boxes without numbers are left out. A lone space is called ``"obs"``, nested
    ones ``"outer/inner"``.

    Raises:
        ConfigurationError: a space that is not supported, or two entries that come to the same name.
    """

    def __init__(self, space: Any, *, image_size: int | None = None) -> None:
        found = _named_leaves(space, "obs")
        self._leaves = {name: leaf for name, leaf in found.items() if _size(leaf.space)}
        if not self._leaves:
            raise ConfigurationError(f"the observation space {space} holds no numbers")
        self._encode: dict[str, Callable[[Any], np.ndarray]] = {}
        self.spec: dict[str, ModalitySpec] = {}
        for name, leaf in self._leaves.items():
            self.spec[name], self._encode[name] = _observe(name, leaf.space, image_size)

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
            value = as_array(leaf.value(nested))
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


def shows_images(space: Any) -> bool:
    """Tell whether any observation of a space is an image."""
    return any(_is_image(leaf.space) for leaf in _leaves(space))


def _is_image(space: Any) -> bool:
    return kind_of(space) == "Box" and space.dtype in (np.uint8, np.uint16) and len(space.shape) in (2, 3)


def _observe(name: str, space: Any, image_size: int | None) -> tuple[ModalitySpec, Callable[[Any], np.ndarray]]:
    kind, shape = kind_of(space), tuple(space.shape or ())
    if _is_image(space):
        return _image(name, space, image_size)
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


def _image(name: str, space: Any, image_size: int | None) -> tuple[ModalitySpec, Callable[[np.ndarray], np.ndarray]]:
    shape, to_chw = image_layout(tuple(space.shape))
    low, high = int(space.low.min()), int(space.high.max())

    def encode(image: np.ndarray) -> np.ndarray:
        if space.dtype == np.uint16:  # 256 levels of the range that the space announces
            image = np.rint((image.astype(np.float64) - low) * (255 / max(1, high - low))).clip(0, 255).astype(np.uint8)
        image = to_chw(image)
        return image if image_size is None else resize(image, image_size)

    shape = shape if image_size is None else (shape[0], image_size, image_size)
    return ModalitySpec(ModalityKind.IMAGE, shape, "uint8", "CHW", name), encode


def image_layout(shape: tuple[int, ...]) -> tuple[tuple[int, ...], Callable[[np.ndarray], np.ndarray]]:
    """Return the shape ``[C, H, W]`` of images of two or three axes, and what brings one image into it."""
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
            raise ValidationError(f"the discrete value {index} is outside its space of {counted(size, 'value')}")
        out[start + index] = 1
        start += size
    return out


# -- actions -----------------------------------------------------------------------------------------------------------


class ActionAdapter:
    """Turns flat action vectors into an environment's actions.

    Discrete parts are one-hot (the largest entry is taken), continuous ones are clipped to [-1, 1] and scaled to
    their bounds, which no rounding passes: whatever is given, the space contains what comes of it. ``bounds`` are the
    two, float64 ``[A]`` each, NaN for discrete parts.

    Raises:
        ConfigurationError: a space that is not supported or holds no numbers, a continuous one without finite bounds
            (there is nothing to scale to), or two entries that come to the same name.
    """

    def __init__(self, space: Any) -> None:
        leaves = list(_named_leaves(space, "action").values())
        pieces = [piece for leaf in leaves if _size(leaf.space) for piece in _pieces(leaf)]
        if not pieces:
            raise ConfigurationError(f"the action space {space} holds no numbers: there is nothing to decide")
        pieces.sort(key=lambda piece: piece[0].name)
        single = len(pieces) == 1 and not leaves[0].path and kind_of(space) in ("Box", "Discrete")
        self.spec = _simple_spec(pieces[0][0]) if single else ActionSpec("multi", parts=tuple(p for p, _, _ in pieces))
        self._space = space
        self._decoders: dict[tuple[Any, ...], list[tuple[slice, Callable[[np.ndarray], np.ndarray]]]] = {}
        start = 0
        for part, leaf, decode in pieces:
            where = slice(start, start + part.dim)
            self._decoders.setdefault(leaf.path, []).append((where, decode))
            start += part.dim
        sides = [_sides(leaf.space, part) for part, leaf, _ in pieces]
        self.bounds = np.concatenate([low for low, _ in sides]), np.concatenate([high for _, high in sides])

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
        kind = kind_of(space)
        if kind == "Dict":
            return {key: self._build(child, (*path, key), flat) for key, child in space.spaces.items()}
        if kind == "Tuple":
            return tuple(self._build(child, (*path, i), flat) for i, child in enumerate(space.spaces))
        values = [decode(flat[where]) for where, decode in self._decoders.get(path, [])]
        if not values:
            return np.zeros(space.shape, space.dtype)
        if kind == "Discrete":
            return space.dtype.type(values[0] + space.start)
        if kind == "Box":
            return values[0].reshape(space.shape)
        array = np.array(values, space.dtype).reshape(space.shape)
        return array + space.start.astype(space.dtype) if kind == "MultiDiscrete" else array


def _simple_spec(part: ActionPart) -> ActionSpec:
    if part.kind == "discrete":
        return ActionSpec("discrete", part.dim, discrete=True, num_actions=part.dim)
    return ActionSpec("continuous", part.dim)


def _pieces(leaf: _Leaf) -> list[tuple[ActionPart, _Leaf, Callable[[np.ndarray], Any]]]:
    kind, name = kind_of(leaf.space), leaf.name or "action"
    if kind == "Box":
        part = ActionPart(name, "continuous", int(np.prod(leaf.space.shape)))
        return [(part, leaf, _scaler(leaf, part))]
    if kind == "Discrete":
        return [(ActionPart(name, "discrete", int(leaf.space.n)), leaf, np.argmax)]
    sizes = np.ravel(leaf.space.nvec) if kind == "MultiDiscrete" else np.full(int(np.prod(leaf.space.shape)), 2)
    width = len(str(len(sizes) - 1))  # padded, so that sorting the names keeps the order
    return [(ActionPart(f"{name}/{i:0{width}d}", "discrete", int(n)), leaf, np.argmax) for i, n in enumerate(sizes)]


def _sides(space: Any, part: ActionPart) -> tuple[np.ndarray, np.ndarray]:
    """The bounds ``[dim]`` of a part, low and high."""
    if part.kind != "continuous":
        return np.full(part.dim, np.nan), np.full(part.dim, np.nan)
    return np.ravel(space.low).astype(np.float64), np.ravel(space.high).astype(np.float64)


def _scaler(leaf: _Leaf, part: ActionPart) -> Callable[[np.ndarray], np.ndarray]:
    space = leaf.space
    low, high = _sides(space, part)
    if not (np.maximum(-low, high) < UNBOUNDED).all():  # false for NaN, too
        where = f" at {leaf.name!r}" if leaf.name else ""
        raise ConfigurationError(
            f"the action space {space}{where} has no finite bounds, but actions are numbers in [-1, 1], scaled to "
            "them: give it the bounds that make sense, as in gymnasium.wrappers.TransformAction(env, lambda a: a, "
            "Box(-2, 2, (3,)))"
        )
    whole, least, most = space.dtype.kind in "iub", np.ravel(space.low), np.ravel(space.high)

    def scale(flat: np.ndarray) -> np.ndarray:
        scaled = low + (np.clip(flat.astype(np.float64), -1, 1) + 1) / 2 * (high - low)
        given = (np.rint(scaled) if whole else scaled).astype(space.dtype)
        return np.minimum(np.maximum(given, least), most)  # in the space's own numbers: rounding may pass a bound

    return scale


def spec_summary(spec: Mapping[str, ModalitySpec]) -> str:
    """Return a spec as a short text, for messages: ``obs float32(4,)``."""
    return ", ".join(f"{name} {one.dtype}{one.shape}" for name, one in spec.items())
