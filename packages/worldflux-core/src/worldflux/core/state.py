"""The latent state of a world model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from typing_extensions import Self

from .errors import ShapeMismatchError, StateError
from .files import json_text, parse_json
from .registry import WorldModelRegistry

_MAGIC = b"WFST\2"  # what it is, and the version of the format


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
        if (version, format) != ("v1", "binary"):
            raise StateError(f"states are written as version 'v1' in format 'binary', not {version!r} in {format!r}")
        try:
            meta = json_text(self.meta, indent=None)
        except (TypeError, ValueError) as error:
            raise StateError(f"the state's meta cannot be written as JSON: {error}") from error
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in self.tensors.items()}
        body = safetensors.torch.save(tensors, {"meta": meta})
        return _MAGIC + hashlib.sha256(body).digest() + body

    @classmethod
    def deserialize(cls, data: bytes) -> State:
        """Return the state that ``serialize`` wrote, also before today. Raises StateError if the bytes are not one."""
        try:
            data, start = bytes(memoryview(data)), len(_MAGIC) + 32
            if data.startswith(b"WFST\1"):
                return cls(*WorldModelRegistry.reach("integration", "earlier").read_state(data))
            if data[: len(_MAGIC)] != _MAGIC:
                raise StateError(f"bad magic or version {data[: len(_MAGIC)]!r}, expected {_MAGIC!r}")
            body = data[start:]
            if hashlib.sha256(body).digest() != data[len(_MAGIC) : start]:
                raise StateError("truncated or damaged state: its hash is another")
            length = int.from_bytes(body[:8], "little")
            meta = parse_json(body[8 : 8 + length])["__metadata__"]["meta"]
            return cls(safetensors.torch.load(body), parse_json(meta.encode()))
        except StateError:
            raise
        except Exception as error:  # whatever reading what is no state can raise
            raise StateError(f"damaged state: {type(error).__name__}: {error}") from error


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
