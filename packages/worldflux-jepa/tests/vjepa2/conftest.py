"""Small models of the family, and clips of noise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import worldflux
from worldflux import Batch
from worldflux_jepa.vjepa2 import VJEPA2

TINY = {
    "obs_shape": (3, 16, 16), "action_dim": 2, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2,
    "pred_embed_dim": 24, "pred_depth": 1, "pred_num_heads": 2, "num_mask_tokens": 3,
}  # fmt: skip


@pytest.fixture
def build() -> Callable[..., VJEPA2]:
    """Builds a small model with the options given, its zeros shaken so that they do something."""

    def make(**options) -> VJEPA2:
        model = worldflux.create_world_model("vjepa2:ci", **{**TINY, **options}).eval()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        return model

    return make


@pytest.fixture
def clips() -> Callable[..., Tensor]:
    """Makes clips of bytes ``[B, T, C, H, W]``."""

    def make(batch: int = 2, frames: int = 4, *, side: int = 16, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(0, 256, (batch, frames, 3, side, side), generator=generator, dtype=torch.uint8)

    return make


@pytest.fixture
def rows(clips) -> Callable[..., Batch]:
    """Makes a batch of clips, as recorded data gives them."""
    return lambda batch=2, frames=4, **fields: Batch(obs={"obs": clips(batch, frames)}, **fields)
