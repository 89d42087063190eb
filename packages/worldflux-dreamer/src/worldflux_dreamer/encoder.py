"""From observations to tokens."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux.core.spec import ModalityKind
from worldflux.core.state import State

from .config import DreamerV3Config
from .distributions import symlog
from .networks import MLP, Conv, rms_silu


class NormedConv(Conv):
    """Convolution, 2x2 max-pool (or doubling of the image), norm over channels, silu."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__(inputs, outputs, size)
        self.scale = nn.Parameter(torch.ones(outputs))

    def forward(self, x: Tensor, *, pool: bool = False) -> Tensor:
        x = super().forward(x)
        if pool:
            x = F.max_pool2d(x, 2)
        return channel_norm(x, self.scale)


def channel_norm(x: Tensor, scale: Tensor) -> Tensor:
    """``silu(rms(x))`` over the channels of ``[N, C, H, W]``."""
    return rms_silu(x.movedim(1, -1).contiguous(), scale).movedim(-1, 1)


class Encoder(nn.Module):
    """Vectors through an MLP of symlog inputs, images through four convolutions; both joined to ``tokens [..., E]``.

    Modalities of a kind are joined in sorted order. Missing vectors (any entry -inf) count as zeros.
    Source: Hafner et al. 2023, appendix; danijar/dreamerv3 ``rssm.py`` (``enc.simple``).
    """

    def __init__(self, config: DreamerV3Config) -> None:
        super().__init__()
        specs = config.modalities
        self.images = [name for name in sorted(specs) if specs[name].kind is ModalityKind.IMAGE]
        self.vectors = [name for name in sorted(specs) if name not in self.images]
        self.shapes = {name: spec.shape for name, spec in specs.items()}
        self.token_dim = 0
        if self.vectors:
            width = sum(math.prod(self.shapes[name]) for name in self.vectors)
            self.mlp = MLP(width, config.units, config.encoder_layers)
            self.token_dim += self.mlp.outputs
        if self.images:
            channels = sum(self.shapes[name][0] for name in self.images)
            sizes = [channels, *config.channels]
            self.cnn = nn.ModuleList(NormedConv(a, b, config.kernel) for a, b in zip(sizes, sizes[1:]))
            rows, cols = config.min_resolution
            self.token_dim += sizes[-1] * rows * cols

    def encode(self, observations: dict[str, Tensor]) -> State:
        """Modalities ``[..., *shape]`` to ``State({"tokens": [..., E]})``."""
        parts = []
        if self.vectors:
            parts.append(self.mlp(self.vector_input(observations)))
        if self.images:
            parts.append(self._convolve(observations))
        return State({"tokens": torch.cat(parts, -1) if len(parts) > 1 else parts[0]})

    def vector_input(self, observations: dict[str, Tensor]) -> Tensor:
        """The MLP's input ``[..., V]``: symlog of each vector, joined."""
        flat = []
        for name in self.vectors:
            value = observations[name].float()
            rank = len(self.shapes[name])
            value = value.reshape(*value.shape[: value.ndim - rank], -1)
            missing = value.isneginf().any(-1, keepdim=True)
            flat.append(symlog(value.masked_fill(missing, 0.0)))
        return torch.cat(flat, -1)

    def _convolve(self, observations: dict[str, Tensor]) -> Tensor:
        frames = []
        for name in self.images:
            value = observations[name]
            frames.append(value.float() / 255 - 0.5 if not value.is_floating_point() else value.float() - 0.5)
        x = torch.cat(frames, -3)
        lead = x.shape[:-3]
        x = x.reshape(-1, *x.shape[-3:])
        for layer in self.cnn:
            x = layer(x, pool=True)
        return x.movedim(1, -1).reshape(*lead, -1)  # (H, W, C) order, as the official weights expect
