"""Parts of transformers that look back: attention and feed-forward layers that begin with their own norm.

Letters: B batch, L tokens, D width. All that dropout draws comes from the generator that is handed down.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux.blocks import Linear


def dropped(x: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """``x`` with a share of its entries 0 and the others larger for it; as it is without a generator."""
    if generator is None or not share:
        return x
    keep = torch.rand(x.shape, generator=generator, device=x.device) >= share
    return x * keep.to(x) / (1 - share)


class PreNormAttention(nn.Module):
    """``out(attention(norm(x)))`` with ``heads`` of ``head_dim``; queries, keys and values without biases."""

    def __init__(self, dim: int, *, heads: int, head_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.head_dim, self.dropout = heads, head_dim, dropout
        self.norm = nn.LayerNorm(dim)
        self.qkv = Linear(dim, 3 * heads * head_dim, bias=False)
        self.out = Linear(heads * head_dim, dim) if heads > 1 or head_dim != dim else None

    def forward(self, x: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Tokens ``[B, L, D]``; ``mask [B or 1, L, L]`` is True where the row's token may look at the column's."""
        size, length, _ = x.shape
        qkv = self.qkv(self.norm(x)).reshape(size, length, 3, self.heads, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        if generator is None or not self.dropout:
            seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask.unsqueeze(1))
        else:
            score = query @ key.transpose(-1, -2) * self.head_dim**-0.5
            weight = score.masked_fill(~mask.unsqueeze(1), -torch.inf).softmax(-1)
            seen = dropped(weight, self.dropout, generator) @ value
        seen = seen.transpose(1, 2).reshape(size, length, -1)
        return seen if self.out is None else dropped(self.out(seen), self.dropout, generator)


class PreNormMLP(nn.Module):
    """``second(gelu(first(norm(x))))``."""

    def __init__(self, dim: int, units: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm, self.first, self.second = nn.LayerNorm(dim), Linear(dim, units), Linear(units, dim)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``[..., D]`` to the same."""
        hidden = dropped(F.gelu(self.first(self.norm(x))), self.dropout, generator)
        return dropped(self.second(hidden), self.dropout, generator)


class Block(nn.Module):
    """Attention and MLP, each added to what came in."""

    def __init__(self, dim: int, *, heads: int, head_dim: int, units: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = PreNormAttention(dim, heads=heads, head_dim=head_dim, dropout=dropout)
        self.mlp = PreNormMLP(dim, units, dropout=dropout)

    def forward(self, x: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Tokens ``[B, L, D]`` and ``mask [B or 1, L, L]``."""
        x = x + self.attention(x, mask, generator)
        return x + self.mlp(x, generator)


class Modulation(Linear):
    """What a condition makes of a block; it starts at 0, so that the block starts as the identity."""


class ModulatedBlock(nn.Module):
    """A block whose inputs are shifted and scaled, and whose outputs are gated, by a condition (AdaLN-zero).

    What is modulated is normalised again: attention and MLP begin with norms of their own. Source: Peebles and Xie
    2023 (DiT), §3.2; Maes et al. 2026 (LeWM).
    """

    def __init__(self, dim: int, *, heads: int, head_dim: int, units: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = PreNormAttention(dim, heads=heads, head_dim=head_dim, dropout=dropout)
        self.mlp = PreNormMLP(dim, units, dropout=dropout)
        self.modulation = Modulation(dim, 6 * dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)

    def forward(self, x: Tensor, condition: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Tokens ``[B, L, D]``, ``condition [B, L, D]`` of each, and ``mask [B or 1, L, L]``."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.modulation(F.silu(condition)).chunk(6, -1)
        x = x + gate * self.attention(self.norm(x) * (1 + scale) + shift, mask, generator)
        return x + gate_mlp * self.mlp(self.norm(x) * (1 + scale_mlp) + shift_mlp, generator)
