"""Nested Python state as a JSON tree and a flat dict of tensors, so that nothing is ever pickled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import CheckpointError


def pack(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    """Return ``value`` as a JSON tree; tensors and arrays move to ``tensors`` under dotted names from ``name``.

    Raises CheckpointError for anything that is not made of None, bool, int, float, str, list, tuple, dict, tensor,
    numpy array or numpy scalar.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (Tensor, np.ndarray)):
        while name in tensors:  # {"a.b": x} beside {"a": {"b": y}}
            name += "'"
        # A copy: an optimizer may keep views of one buffer, which the file format refuses.
        if isinstance(value, np.ndarray):
            tensors[name] = torch.from_numpy(np.array(value))
            return {"$array": name}
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"$tensor": name}
    if isinstance(value, (list, tuple)):
        items = [pack(item, tensors, f"{name}.{i}") for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: pack(item, tensors, f"{name}.{key}") for key, item in value.items()}
        # Optimizer state has integer keys, which JSON objects would turn into strings.
        return {"$items": [[pack(k, tensors, f"{name}.k"), pack(v, tensors, f"{name}.{k}")] for k, v in value.items()]}
    raise CheckpointError(f"cannot save {name}: a {type(value).__name__} is no number, text, tensor or container")


def unpack(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return what ``pack`` was given. Raises KeyError if a tensor is missing."""
    if isinstance(tree, list):
        return [unpack(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if len(tree) == 1:
        (tag, content), *_ = tree.items()
        if tag == "$tensor":
            return tensors[content]
        if tag == "$array":
            return tensors[content].numpy()
        if tag == "$tuple":
            return tuple(unpack(item, tensors) for item in content)
        if tag == "$items":
            return {unpack(key, tensors): unpack(item, tensors) for key, item in content}
    return {key: unpack(item, tensors) for key, item in tree.items()}
