"""A batch of sequences under the arrival convention."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import InitVar, dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from .errors import ConfigurationError, ShapeMismatchError, ValidationError, did_you_mean
from .spec import SequenceFieldSpec
from .state import map_tensors, register_pytree

# Earlier names of fields. They are properties, so that each thing is stored, moved and copied once.
_EARLIER = {"terminations": "is_terminal", "inputs": "obs", "targets": "target"}
_FLAGS = ("is_first", "is_last", "is_terminal")


@dataclass
class Batch:
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
    terminations: InitVar[Tensor | None] = None
    mask: Tensor | None = None
    context: Any = None
    target: Any = None
    inputs: InitVar[Any] = None
    targets: InitVar[Any] = None
    conditions: Any = None
    lengths: dict[str, Tensor] = field(default_factory=dict)
    masks: dict[str, Tensor] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    layouts: dict[str, str] = field(default_factory=dict)
    strict_layout: bool = False

    def __post_init__(self, terminations: Tensor | None, inputs: Any, targets: Any) -> None:
        for name, earlier in (("is_terminal", terminations), ("obs", inputs), ("target", targets)):
            if getattr(self, name) is None:
                setattr(self, name, earlier)
        for name in _FLAGS:
            value = getattr(self, name)
            if isinstance(value, Tensor) and value.dtype != torch.bool:
                setattr(self, name, value > 0.5)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Batch:
        """Build a batch from a mapping of field names. Raises ConfigurationError for unknown names."""
        known = {f.name for f in fields(cls)} | set(_EARLIER)
        unknown = sorted(set(data) - known)
        if unknown:
            raise ConfigurationError(f"unknown batch field {unknown[0]!r}.{did_you_mean(unknown[0], known)}")
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that hold something."""
        pairs = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: value for name, value in pairs if value is not None and value is not False and value != {}}

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor with its dotted name."""
        for f in fields(self):
            if f.name not in ("layouts", "strict_layout"):
                yield from _walk(f.name, getattr(self, f.name))

    def map(self, fn: Callable[[Tensor], Tensor]) -> Batch:
        """Return a batch with ``fn`` applied to every tensor."""
        mapped: Batch = map_tensors(self, fn)
        return mapped

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on another device."""
        return self.map(lambda value: value.to(device))

    def detach(self) -> Batch:
        """Return the batch cut from the autograd graph."""
        return self.map(torch.Tensor.detach)

    def clone(self) -> Batch:
        """Return a copy that shares no memory."""
        return self.map(torch.clone)

    def with_layouts(self, layouts: Mapping[str, str], *, strict: bool | None = None) -> Batch:
        """Return the batch with further axes by field; ``strict`` refuses layouts of absent fields."""
        return replace(
            self,
            layouts={**self.layouts, **layouts},
            strict_layout=self.strict_layout if strict is None else strict,
        )

    @property
    def batch_size(self) -> int:
        """Number of sequences. Raises ValidationError if the batch holds no tensor."""
        for name, value in self.tensors():
            axis = self._layout(name).find("B")
            if axis >= 0 and value.ndim > axis:
                return value.shape[axis]
        raise ValidationError("the batch holds no tensor")

    def _layout(self, name: str) -> str:
        root = name.split(".", 1)[0]
        default = "B" if root == "lengths" else "B..." if root in ("conditions", "extras") else "BT..."
        return self.layouts.get(name, self.layouts.get(root, default))

    def validate(
        self, *, strict_time: bool = True, sequence_field_spec: Mapping[str, SequenceFieldSpec] | None = None
    ) -> None:
        """Raise ShapeMismatchError or ValidationError if batch sizes, time lengths, layouts or lengths disagree."""
        names = {name for name, _ in self.tensors()} | {name.split(".", 1)[0] for name, _ in self.tensors()}
        unknown = sorted(set(self.layouts) - names)
        if unknown and self.strict_layout:
            raise ValidationError(f"Unknown layout field {unknown[0]!r}, the batch has {sorted(names)}")
        variable = {name for name, spec in (sequence_field_spec or {}).items() if spec.variable_length}
        batch, time = self.batch_size, None
        for name, value in self.tensors():
            layout, root = self._layout(name), name.split(".", 1)[0]
            if "B" in layout and (value.ndim <= layout.find("B") or value.shape[layout.find("B")] != batch):
                got = tuple(value.shape)
                label = f"lengths[{name[8:]!r}]" if root == "lengths" else repr(name)
                raise ShapeMismatchError(f"{label} batch size mismatch", expected=batch, got=got)
            if strict_time and layout.startswith("BT") and value.ndim >= 2 and root not in variable:
                if time is not None and value.shape[1] != time[1]:
                    message = f"time dimension mismatch between {time[0]!r} and {name!r}"
                    raise ShapeMismatchError(message, expected=time[1], got=value.shape[1])
                time = time or (name, value.shape[1])
        for name, lengths in self.lengths.items():
            steps = [v.shape[1] for n, v in self.tensors() if name in (n, n.split(".", 1)[0]) and v.ndim >= 2]
            if steps and int(lengths.max()) > steps[0]:
                raise ValidationError(f"lengths[{name!r}] exceeds the {steps[0]} stored steps")


def _earlier(name: str, read: Callable[[Any], Any]) -> property:
    def get(batch: Batch) -> Any:
        value = getattr(batch, name)
        return None if value is None else read(value)

    return property(get, lambda batch, value: setattr(batch, name, value), doc=f"The earlier name of ``{name}``.")


for _old, _new in _EARLIER.items():
    setattr(Batch, _old, _earlier(_new, Tensor.float if _new in _FLAGS else lambda value: value))


def _walk(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, child in value.items():
            yield from _walk(f"{name}.{key}", child)


register_pytree(
    Batch,
    tuple(f.name for f in fields(Batch) if f.name not in ("layouts", "strict_layout")),
    ("layouts", "strict_layout"),
)
