"""A vision transformer with a class token and learned positions, as in the image encoders that others publish."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux.blocks import Conv, Linear

EPS = 1e-12  # of every norm, as BERT's


class Layer(nn.Module):
    """Self-attention and MLP behind norms, each added to what came in."""

    def __init__(self, dim: int, *, heads: int, units: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.after = (nn.LayerNorm(dim, eps=EPS) for _ in range(2))
        self.query, self.key, self.value, self.out = (Linear(dim, dim) for _ in range(4))
        self.first, self.second = Linear(dim, units), Linear(units, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``[N, L, D]`` to the same."""
        seen = self.before(x)
        parts = (
            part(seen).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(-2)
        x = x + self.out(mixed)
        return x + self.second(F.gelu(self.first(self.after(x))))


class VisionTransformer(nn.Module):
    """Patches and a class token, ``grid`` by ``grid`` learned positions, ``depth`` layers and a last norm.

    Images of other sizes interpolate the positions. Source: Dosovitskiy et al. 2021; the layout of ``transformers``'
    ``ViTModel``.
    """

    def __init__(
        self,
        inputs: int,
        *,
        patch: int,
        grid: tuple[int, int],
        dim: int,
        depth: int,
        heads: int,
        units: int,
        patches: bool = False,
    ) -> None:
        super().__init__()
        self.grid, self.patches = grid, patches
        self.patch = Conv(inputs, dim, patch, stride=patch)
        self.first = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.zeros(1, 1 + grid[0] * grid[1], dim))
        self.layers = nn.ModuleList(Layer(dim, heads=heads, units=units) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=EPS)

    def forward(self, image: Tensor) -> Tensor:
        """Images ``[N, C, H, W]`` to what became of the class token, ``[N, D]``, or of the patches, ``[N, P, D]``."""
        tokens = self.tokens(image)
        return tokens[:, 1:] if self.patches else tokens[:, 0]

    def tokens(self, image: Tensor) -> Tensor:
        """All tokens ``[N, 1 + P, D]``, the class token first."""
        tokens = self.embed(image)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens)

    def embed(self, image: Tensor) -> Tensor:
        """Tokens ``[N, 1 + P, D]`` before the first layer."""
        patches = self.patch(image)
        rows, columns = patches.shape[-2:]
        tokens = torch.cat([self.first.expand(len(image), -1, -1), patches.flatten(2).transpose(1, 2)], 1)
        return tokens + self.places(rows, columns)

    def places(self, rows: int, columns: int) -> Tensor:
        """Positions ``[1, 1 + P, D]`` of so many patches."""
        if (rows, columns) == self.grid:
            return self.positions
        known = self.positions[:, 1:].transpose(1, 2).unflatten(-1, self.grid)
        other = F.interpolate(known, (rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([self.positions[:, :1], other.flatten(2).transpose(1, 2)], 1)
