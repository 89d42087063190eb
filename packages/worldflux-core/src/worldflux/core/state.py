"""The latent state of a world model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from typing_extensions import Self

from .errors import ShapeMismatchError, StateError
from .registry import WorldModelRegistry


def map_tensors(tree: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    """Apply ``fn`` to every tensor in nested dicts, lists, tuples and registered pytrees."""
    return pytree.tree_map(lambda leaf: fn(leaf) if isinstance(leaf, Tensor) else leaf, tree)


class Tensors:
    """What all that holds tensors can do with them at once."""

    def map(self, fn: Callable[[Tensor], Tensor]) -> Self:
        """Return the same with ``fn`` applied to every tensor."""
        return map_tensors(self, fn)  # type: ignore[no-any-return]

    def to(self, device: torch.device | str) -> Self:
        """Return the same on another device."""
        return self.map(lambda value: value.to(device))

    def detach(self) -> Self:
        """Return the same cut from the autograd graph."""
        return self.map(torch.Tensor.detach)

    def clone(self) -> Self:
        """Return a copy that shares no memory."""
        return self.map(torch.clone)


@dataclass
class State(Tensors):
    """Named tensors with a shared leading batch axis, and metadata that no computation reads.

    ``tensors`` maps names (``"deter"``, ``"stoch"``, ``"latent"``) to tensors ``[B, ...]``.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise StateError(f"the state has no {name!r}, it has {sorted(self.tensors)}")
        return self.tensors[name]

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def get(self, name: str, default: Tensor | None = None) -> Tensor | None:
        """Return the tensor called ``name``, or ``default``."""
        return self.tensors.get(name, default)

    @property
    def batch_size(self) -> int:
        """Length of the leading axis. Raises StateError if the state is empty."""
        return self._first().shape[0]

    @property
    def device(self) -> torch.device:
        """Device of the tensors. Raises StateError if the state is empty."""
        return self._first().device

    def _first(self) -> Tensor:
        if not self.tensors:
            raise StateError("the state holds no tensors")
        return next(iter(self.tensors.values()))

    def map(self, fn: Callable[[Tensor], Tensor]) -> Self:  # at every step of a plan: faster than a pytree's
        return type(self)({name: fn(value) for name, value in self.tensors.items()}, dict(self.meta))

    def validate(self) -> None:
        """Raise StateError if empty, ShapeMismatchError if the leading axes differ."""
        size = self.batch_size
        for name, value in self.tensors.items():
            if value.ndim == 0 or value.shape[0] != size:
                raise ShapeMismatchError(
                    f"batch size mismatch in state tensor {name!r}",
                    expected=(size, "..."),
                    got=tuple(value.shape),
                )

    def serialize(self, version: str = "v1", format: str = "binary") -> bytes:
        """Return the state as bytes: a magic word with a version, a SHA-256, and safetensors that carry ``meta``.

        ``"v1"`` is the format of today. Raises StateError if ``meta`` holds what JSON cannot, and for another version.
        """
        data: bytes = WorldModelRegistry.reach("integration", "state_bytes").written(self, version, format)
        return data

    @classmethod
    def deserialize(cls, data: bytes) -> State:
        """Return the state that ``serialize`` wrote, also before today. Raises StateError if the bytes are not one."""
        return cls(*WorldModelRegistry.reach("integration", "state_bytes").read(data))


def stack_states(states: Iterable[State], dim: int = 0) -> State:
    """Return one state whose tensors are the given states' tensors stacked along a new axis."""
    items = list(states)
    if not items:
        raise StateError("no states to stack")
    return State({name: torch.stack([s.tensors[name] for s in items], dim) for name in items[0].tensors})


def register_pytree(cls: type[Any], tensor_fields: tuple[str, ...], static_fields: tuple[str, ...] = ()) -> None:
    """Make a dataclass a pytree, so that it passes through torch.compile, vmap and export."""

    def flatten(value: Any) -> tuple[list[Any], Any]:
        return [getattr(value, name) for name in tensor_fields], tuple(getattr(value, name) for name in static_fields)

    def unflatten(children: Iterable[Any], context: Any) -> Any:
        value: Any = object.__new__(cls)  # no __init__: leaves may be placeholders that validation would refuse
        for name, child in zip(tensor_fields, children, strict=True):
            object.__setattr__(value, name, child)
        for name, child in zip(static_fields, context, strict=True):
            object.__setattr__(value, name, child)
        return value

    pytree.register_pytree_node(cls, flatten, unflatten, serialized_type_name=f"{cls.__module__}.{cls.__qualname__}")


register_pytree(State, ("tensors",), ("meta",))
