"""A state as bytes: a magic word with a version, a SHA-256, and safetensors that carry the state's ``meta``."""

from __future__ import annotations

import hashlib
from typing import Any

import safetensors.torch
from torch import Tensor

from worldflux.core.errors import StateError
from worldflux.core.registry import WorldModelRegistry
from worldflux.core.state import State
from worldflux.files import json_text, parse_json

_MAGIC = b"WFST\2"  # what it is, and the version of the format


def written(state: State, version: str, format: str) -> bytes:
    """A state as bytes. Raises what ``State.serialize`` raises."""
    if (version, format) != ("v1", "binary"):
        raise StateError(f"states are written as version 'v1' in format 'binary', not {version!r} in {format!r}")
    try:
        meta = json_text(state.meta, indent=None)
    except (TypeError, ValueError) as error:
        raise StateError(f"the state's meta cannot be written as JSON: {error}") from error
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.tensors.items()}
    body = safetensors.torch.save(tensors, {"meta": meta})
    return _MAGIC + hashlib.sha256(body).digest() + body


def read(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the meta of a state that ``written`` wrote, also before today. Raises StateError otherwise."""
    try:
        data, start = bytes(memoryview(data)), len(_MAGIC) + 32
        if data.startswith(b"WFST\1"):
            earlier: tuple[dict[str, Tensor], dict[str, Any]]
            earlier = WorldModelRegistry.reach("integration", "earlier").read_state(data)
            return earlier
        if data[: len(_MAGIC)] != _MAGIC:
            raise StateError(f"bad magic or version {data[: len(_MAGIC)]!r}, expected {_MAGIC!r}")
        body = data[start:]
        if hashlib.sha256(body).digest() != data[len(_MAGIC) : start]:
            raise StateError("truncated or damaged state: its hash is another")
        length = int.from_bytes(body[:8], "little")
        meta = parse_json(body[8 : 8 + length])["__metadata__"]["meta"]
        return safetensors.torch.load(body), parse_json(meta.encode())
    except StateError:
        raise
    except Exception as error:  # whatever reading what is no state can raise
        raise StateError(f"damaged state: {type(error).__name__}: {error}") from error
