"""Patches under a random projection: the floor that a pretrained encoder has to beat, and it needs no package."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .kinds import HALVES, Kind

PATCHES = Kind("patches", "patches", "RandomPatches", "", pixels=HALVES)


class RandomPatches(nn.Module):
    """Each patch through one layer that nobody trains, as the classes of ``transformers`` answer."""

    weight: Tensor

    def __init__(self, config: dict[str, Any], *, seed: int) -> None:
        super().__init__()
        self.patch = config["patch_size"]
        generator, size = torch.Generator(device="cpu").manual_seed(seed), 3 * self.patch**2
        weight = torch.randn(config["hidden_size"], size, generator=generator, device="cpu") / size**0.5
        self.register_buffer("weight", weight)

    def forward(self, pixel_values: Tensor) -> SimpleNamespace:
        """Pixels ``[B, 3, H, W]`` to ``last_hidden_state [B, N, D]``."""
        patches = F.unfold(pixel_values, self.patch, stride=self.patch).transpose(1, 2)
        return SimpleNamespace(last_hidden_state=torch.tanh(F.linear(patches, self.weight)))
