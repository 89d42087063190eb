"""What an environment shows, one observation or a batch of them, as the arrays a model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from worldflux.core.errors import ConfigurationError, ShapeMismatchError, ValidationError, did_you_mean
from worldflux.core.spec import ModalityKind, ModalitySpec
from worldflux.envs.spaces import ObservationAdapter, spec_summary
from worldflux.envs.stack import stacked
from worldflux.words.counts import counted

from .pictures import fitted
from .spaces import Box, Dict, box, kind_of


class Observing:
    """Turns observations, in the form of their ``space``, into arrays ``[N, ...]`` by the model's names.

    Without a space the observations have the model's own form: one array, or a dict of them by name. Where
    ``image_size`` is given the space's pictures are resized; with ``render_size`` they are the environment's rendered
    ones, of any size, in place of what it shows.

    Raises:
        ConfigurationError: the space is not what the model observes.
    """

    def __init__(
        self,
        specs: Mapping[str, ModalitySpec],
        space: Any,
        *,
        image_size: int | None,
        render_size: int | None,
        frame_stack: int,
    ) -> None:
        self._specs, self._frames = dict(specs), frame_stack
        single = {name: self._single(spec) for name, spec in specs.items()}
        if render_size is not None:
            space = None
        shown = None if space is None else ObservationAdapter(space, image_size=image_size)
        self._adapt, self._resizes = shown, shown is None and (image_size or render_size) is not None
        self._space = _space_of(single) if space is None else space
        self._leaves = single if space is None else ObservationAdapter(space).spec
        self._names = {name: name for name in single}
        if shown is not None:
            if len(single) == len(shown.spec) == 1:
                self._names = dict(zip(shown.spec, single, strict=True))
            self._check(single, {self._names.get(name, name): spec for name, spec in shown.spec.items()})

    def _single(self, spec: ModalitySpec) -> ModalitySpec:
        """What one frame of a modality is."""
        if self._frames == 1 or spec.kind is not ModalityKind.IMAGE:
            return spec
        channels, *size = spec.shape
        if channels % self._frames:
            raise ConfigurationError(f"frame_stack is {self._frames}, but the model's pictures are {spec.shape}")
        return replace(spec, shape=(channels // self._frames, *size))

    def _check(self, wanted: Mapping[str, ModalitySpec], shown: Mapping[str, ModalitySpec]) -> None:
        if {name: spec.shape for name, spec in wanted.items()} != {name: spec.shape for name, spec in shown.items()}:
            hint = ""
            if any(map(_is_image, self._specs.values())):
                hint = "; pictures may need image_size=, render_size= or frame_stack=, as make_env takes them"
            raise ConfigurationError(
                f"the model observes {spec_summary(wanted)}, the environment shows {spec_summary(shown)}: an agent "
                f"acts in environments like the one its model was trained in{hint}"
            )

    def rows(self, given: Any) -> tuple[dict[str, np.ndarray], bool]:
        """Return arrays ``[N, ...]``, and whether a batch was given (else N is 1).

        Raises:
            ShapeMismatchError, ValidationError: this is neither one observation nor a batch of them.
        """
        if kind_of(self._space) in ("Dict", "Tuple") and isinstance(given, list):
            nested, batch = [self._nested(self._space, one, "") for one in given], True
            leads = {lead for one in nested for lead in _leads(self._space, one)} - {None}
            if leads or not nested:
                raise ShapeMismatchError(
                    "a list is a batch", expected="one observation in each place", got=leads or "none"
                )
        else:
            whole = self._nested(self._space, given, "")
            leads = set(_leads(self._space, whole))
            if len(leads) != 1 or 0 in leads:
                got = sorted(str(lead or "one") for lead in leads)
                raise ShapeMismatchError("rows in an observation's parts", expected="the same number in each", got=got)
            (size,) = leads
            batch = size is not None
            nested = [whole] if size is None else [_pick(self._space, whole, i) for i in range(size)]
        if self._adapt is not None:
            return {self._names[name]: rows for name, rows in self._adapt(nested).items()}, batch
        return self._as_stated(nested), batch

    def stack(
        self, rows: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray], first: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return rows with the last frames of their episodes in each picture; ``before`` is what this gave last."""
        images = [name for name in rows if _is_image(self._specs[name])] if self._frames > 1 else []
        frames = {name: stacked(before.get(name), rows[name], first, frames=self._frames) for name in images}
        return {**rows, **frames}

    def _as_stated(self, nested: Sequence[Any]) -> dict[str, np.ndarray]:
        out = {}
        for name, spec in self._specs.items():
            values = np.stack([one if isinstance(self._space, Box) else one[name] for one in nested])
            if not np.can_cast(values.dtype, spec.dtype, "same_kind"):
                raise ValidationError(f"observation {name!r} has dtype {values.dtype}, expected {spec.dtype}")
            out[name] = values.astype(spec.dtype)
        return out

    def _nested(self, space: Any, given: Any, name: str) -> Any:
        """What was given, in the form of the space, with arrays of the space's shapes, or batches, at its ends."""
        kind = kind_of(space)
        if kind == "Dict":
            if not isinstance(given, Mapping):
                raise ValidationError(
                    f"{_what(name)} is a {type(given).__name__}, expected a dict of {list(space.spaces)}"
                )
            for key in space.spaces:
                if key not in given:
                    near = did_you_mean(str(key), map(str, given))
                    raise ValidationError(f"{_what(name)} has no {key!r}, it has {list(given)}.{near}")
            return {
                key: self._nested(child, given[key], f"{name}/{key}".strip("/")) for key, child in space.spaces.items()
            }
        if kind == "Tuple":
            if not isinstance(given, (tuple, list)) or len(given) != len(space.spaces):
                raise ValidationError(
                    f"{_what(name)} is a {type(given).__name__}, expected {counted(len(space.spaces), 'part')}"
                )
            return tuple(
                self._nested(child, given[i], f"{name}/{i}".strip("/")) for i, child in enumerate(space.spaces)
            )
        if isinstance(given, Mapping) and not name and len(given) == 1 and set(given) <= {"obs", *self._specs}:
            (given,) = given.values()  # by the name it has as a modality
        value, shape = _array(given, name), tuple(space.shape)
        spec = self._leaves[name or next(iter(self._leaves))]
        if _is_image(spec) and value.shape[-len(shape) :] != shape:
            value = fitted(value, shape, spec.shape, resizes=self._resizes)
        if value.ndim - len(shape) not in (0, 1) or value.shape[value.ndim - len(shape) :] != shape:
            pictures = _is_image(spec) and value.ndim < 2
            hint = ": the model was trained on pictures, so give it what the environment renders" if pictures else ""
            expected = f"{shape}, or {('N', *shape)} for a batch"
            raise ShapeMismatchError(f"{_what(name)}{hint}", expected=expected, got=value.shape)
        return value


def _space_of(specs: Mapping[str, ModalitySpec]) -> Any:
    """A model's modalities as a space: one is a box, several are a dict."""
    boxes = {name: box(spec.shape, spec.dtype) for name, spec in specs.items()}
    return next(iter(boxes.values())) if len(boxes) == 1 else Dict(spaces=boxes)


def _is_image(spec: ModalitySpec) -> bool:
    return spec.kind is ModalityKind.IMAGE


def _what(name: str) -> str:
    return f"the observation {name!r}" if name else "the observation"


def _array(given: Any, name: str) -> np.ndarray:
    if isinstance(given, torch.Tensor):
        given = given.detach().cpu()
        return (given.float() if given.dtype == torch.bfloat16 else given).numpy()
    try:
        value = np.asarray(given)
    except ValueError as error:  # rows of several lengths
        raise ValidationError(f"{_what(name)} is no array of numbers: {error}") from error
    if value.dtype.kind not in "biuf":
        raise ValidationError(f"{_what(name)} is a {type(given).__name__}, expected numbers")
    return value


def _leads(space: Any, nested: Any) -> list[int | None]:
    """How many rows each array has; None for one that is a single observation."""
    kind = kind_of(space)
    if kind in ("Dict", "Tuple"):
        children = space.spaces.items() if kind == "Dict" else enumerate(space.spaces)
        return [lead for key, child in children for lead in _leads(child, nested[key])]
    return [len(nested) if nested.ndim > len(space.shape) else None]


def _pick(space: Any, nested: Any, i: int) -> Any:
    kind = kind_of(space)
    if kind == "Dict":
        return {key: _pick(child, nested[key], i) for key, child in space.spaces.items()}
    if kind == "Tuple":
        return tuple(_pick(child, nested[j], i) for j, child in enumerate(space.spaces))
    return nested[i]
