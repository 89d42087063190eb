"""Means of what the updates between two records reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Meter:
    """Sums scalars on their device; nothing waits for the device until ``pop``."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor | float] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        """Add one observation of each value; a tensor counts with its mean."""
        for name, value in values.items():
            scalar = value.detach().float().mean() if isinstance(value, Tensor) else float(value)
            self._sums[name] = self._sums.get(name, 0.0) + scalar
            self._counts[name] = self._counts.get(name, 0) + 1

    def pop(self) -> dict[str, float]:
        """Return the means since the last ``pop`` and start anew."""
        tensors = {name: value for name, value in self._sums.items() if isinstance(value, Tensor)}
        if tensors:  # one transfer from the device, not one per number
            device = next(iter(tensors.values())).device
            host = torch.stack([value.to(device) for value in tensors.values()]).tolist()
            self._sums.update(zip(tensors, host, strict=True))
        means = {name: float(value) / self._counts[name] for name, value in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """Return the running sums."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state_dict`` returned."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])


def plain(value: Any) -> Any:
    """A number for an array or a tensor of one; anything else as it is."""
    if isinstance(value, (np.generic, np.ndarray, Tensor)) and len(value.reshape(-1)) == 1:
        return value.item()
    return value
