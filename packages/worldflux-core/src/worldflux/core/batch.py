"""A batch of sequences under the arrival convention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import InitVar, dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from .errors import ConfigurationError, ValidationError, did_you_mean
from .registry import WorldModelRegistry
from .spec import SequenceFieldSpec
from .state import Tensors, register_pytree

# Earlier names of fields. They are properties, so that each thing is stored, moved and copied once.
EARLIER = {"terminations": "is_terminal", "inputs": "obs", "targets": "target"}
_FLAGS = ("is_first", "is_last", "is_terminal")
_STATIC = ("layouts", "strict_layout")
_LAYOUTS = {"lengths": "B", "conditions": "B...", "extras": "B..."}  # of the others "BT..."


@dataclass
class Batch(Tensors):
    """Sequences ``[B, T, ...]``: row t is what was seen on arriving at step t, plus what was done next.

    ``obs`` a tensor or a dict of modalities (images uint8 ``[B, T, C, H, W]``); ``actions [B, T, A]``, done at t;
    ``rewards [B, T]``, received on arriving at t (0 where ``is_first``); ``is_first``, ``is_last``, ``is_terminal``
    ``[B, T]`` bool; ``context`` latents stored with the rows; ``lengths`` valid steps per sequence ``[B]`` by field;
    ``mask [B, T]``; ``layouts`` axes by field (default ``BT...``); ``extras`` namespaced tensors.
    Earlier names go on working: ``inputs`` is ``obs``, ``targets`` is ``target``, ``terminations`` is ``is_terminal``
    as floats.
    """

    obs: Any = None
    actions: Tensor | None = None
    rewards: Tensor | None = None
    is_first: Tensor | None = None
    is_last: Tensor | None = None
    is_terminal: Tensor | None = None
    next_obs: Any = None
    terminations: InitVar[Any] = ...
    mask: Tensor | None = None
    context: Any = None
    target: Any = None
    inputs: InitVar[Any] = ...
    targets: InitVar[Any] = ...
    conditions: Any = None
    lengths: dict[str, Tensor] = field(default_factory=dict)
    masks: dict[str, Tensor] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    layouts: dict[str, str] = field(default_factory=dict)
    strict_layout: bool = False

    def __post_init__(self, *earlier: Any) -> None:
        for name, value in zip(EARLIER.values(), earlier, strict=False):
            if value is not ...:
                setattr(self, name, value)
        for name in ("lengths", "masks", "layouts"):
            setattr(self, name, {EARLIER.get(key, key): value for key, value in (getattr(self, name) or {}).items()})

    def __setattr__(self, name: str, value: Any) -> None:
        """Flags are kept as booleans, however they are given."""
        number = name in _FLAGS and isinstance(value, Tensor) and value.dtype != torch.bool
        super().__setattr__(name, value > 0.5 if number else value)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Batch:
        """Build a batch from a mapping of field names. Raises ConfigurationError for unknown names."""
        if not isinstance(data, Mapping):
            raise ConfigurationError(f"a batch is made of a mapping of its fields, got a {type(data).__name__}")
        known = {f.name for f in fields(cls)} | set(EARLIER)
        unknown = sorted(set(data) - known)
        if unknown:
            raise ConfigurationError(f"unknown batch field {unknown[0]!r}.{did_you_mean(unknown[0], known)}")
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that hold something."""
        pairs = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {k: v for k, v in pairs if v is not None and v is not False and not (isinstance(v, Mapping) and not v)}

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor with its dotted name."""
        for f in fields(self):
            if f.name not in _STATIC:
                yield from _walk(f.name, getattr(self, f.name))

    def with_layouts(self, layouts: Mapping[str, str], *, strict: bool | None = None) -> Batch:
        """Return the batch with further axes by field; ``strict`` refuses layouts of absent fields."""
        strict = self.strict_layout if strict is None else strict
        return replace(self, layouts={**self.layouts, **layouts}, strict_layout=strict)

    @property
    def batch_size(self) -> int:
        """Number of sequences. Raises ValidationError if the batch holds no tensor."""
        for name, value in self.tensors():
            axis = self.layout_of(name).find("B")
            if axis >= 0 and value.ndim > axis:
                return value.shape[axis]
        raise ValidationError("the batch holds no tensor")

    def layout_of(self, name: str) -> str:
        """The axes of a tensor, by its dotted name."""
        field = root(name)
        return self.layouts.get(name) or self.layouts.get(field) or _LAYOUTS.get(field, "BT...")

    def validate(
        self, *, strict_time: bool = True, sequence_field_spec: Mapping[str, SequenceFieldSpec] | None = None
    ) -> None:
        """Raise ShapeMismatchError or ValidationError if batch sizes, time lengths, layouts or lengths disagree.

        Fields with ``lengths``, or of variable length by ``sequence_field_spec``, may have a time axis of their own.
        """
        rules = WorldModelRegistry.reach("integration", "contract_rules.batches")
        rules.check(self, strict_time=strict_time, specs=sequence_field_spec or {})


def root(name: str) -> str:
    """The field that a dotted name of a tensor begins with."""
    return name.split(".", 1)[0]


def _earlier(name: str) -> property:
    def get(batch: Batch) -> Any:
        value = getattr(batch, name)
        return value.float() if name in _FLAGS and value is not None else value

    return property(get, lambda batch, value: setattr(batch, name, value), doc=f"The earlier name of ``{name}``.")


for _old, _new in EARLIER.items():
    setattr(Batch, _old, _earlier(_new))
    # What is no field, `replace` does not hand on: the old value would stand in for a field set to None.
    del Batch.__dataclass_fields__[_old]


def _walk(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, child in value.items():
            yield from _walk(f"{name}.{key}", child)


register_pytree(Batch, tuple(f.name for f in fields(Batch) if f.name not in _STATIC), _STATIC)
