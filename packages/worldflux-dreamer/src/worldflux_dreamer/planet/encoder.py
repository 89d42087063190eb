"""From observations to tokens, and how pixels are read."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux.core.state import State

from ..distributions import symlog
from .config import PlaNetConfig
from .networks import Conv, dense_layers

LEFT = 2 * 2  # pixels of a 64 × 64 image after four convolutions


class Encoder(nn.Module):
    """Images through four convolutions, vectors through dense layers of their symlog; both joined to ``tokens``.

    Modalities of a kind are joined in sorted order. Source: Hafner et al. 2019 (PlaNet) appendix A; Ha and Schmidhuber
    2018 (the convolutions).
    """

    def __init__(self, config: PlaNetConfig) -> None:
        super().__init__()
        self.images, self.vectors = config.image_names, config.vector_names
        self.shapes = {name: spec.shape for name, spec in config.modalities.items()}
        self.token_dim = 0
        if self.vectors:
            width = sum(math.prod(self.shapes[name]) for name in self.vectors)
            self.mlp = dense_layers(width, config.hidden_dim, config.encoder_layers)
            self.token_dim += config.hidden_dim
        if self.images:
            sizes = [sum(self.shapes[name][0] for name in self.images), *(config.depth * 2**i for i in range(4))]
            self.cnn = nn.ModuleList(Conv(a, b, 4) for a, b in zip(sizes, sizes[1:]))
            self.token_dim += sizes[-1] * LEFT

    def encode(self, observations: dict[str, Tensor]) -> State:
        """Modalities ``[..., *shape]``, images in [0, 1], to ``State({"tokens": [..., E]})``."""
        parts = []
        if self.vectors:
            flat = []
            for name in self.vectors:
                value, rank = observations[name].float(), len(self.shapes[name])
                flat.append(symlog(value.reshape(*value.shape[: value.ndim - rank], -1)))
            parts.append(self.mlp(torch.cat(flat, -1)))
        if self.images:
            x = torch.cat([observations[name] for name in self.images], -3) - 0.5
            lead = x.shape[:-3]
            x = x.reshape(-1, *x.shape[-3:])
            for layer in self.cnn:
                x = F.relu(layer(x))
            parts.append(x.reshape(*lead, -1))
        return State({"tokens": torch.cat(parts, -1) if len(parts) > 1 else parts[0]})


def read_pixels(image: Tensor, bits: int, noise: Tensor | None) -> Tensor:
    """Bytes as numbers in [0, 1]: the first ``bits`` bits, and ``noise`` in [0, 1) for what was cut off (None: 1/2).

    Images that are floats already stay as they are. Source: Kingma and Dhariwal 2018 (Glow), as PlaNet uses it.
    """
    if image.is_floating_point():
        return image.float()
    level = torch.div(image, 2 ** (8 - bits), rounding_mode="floor").float()
    return (level + (0.5 if noise is None else noise)) / 2**bits
