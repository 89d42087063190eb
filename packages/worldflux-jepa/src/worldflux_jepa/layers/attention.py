"""Transformer blocks as vision transformers have them; their parameters are called as in the official V-JEPA 2.

Letters: B batch, N tokens, M tokens that are read, D width, d width of a head.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from worldflux import ConfigurationError
from worldflux.blocks import Linear

from .rope import Rotation, rotate


class Attention(nn.Module):
    """Self-attention of several heads, with rotary positions where they are given."""

    def __init__(self, width: int, heads: int, *, qkv_bias: bool = True) -> None:
        super().__init__()
        if width % heads:
            raise ConfigurationError(f"a width of {width} cannot be split into {heads} heads: it must be a multiple")
        self.heads = heads
        self.qkv = Linear(width, 3 * width, bias=qkv_bias)
        self.proj = Linear(width, width)

    def project(self, x: Tensor, rotation: Rotation | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens ``[B, N, D]`` to queries, keys and values ``[B, heads, N, d]``, the first two rotated."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        return query, key, value

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """What queries ``[B, heads, N, d]`` read of keys and values ``[B, heads, M, d]``, as tokens ``[B, N, D]``.

        ``mask [N, M]`` is True where a token may be read.
        """
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed: Tensor = self.proj(read.transpose(1, 2).flatten(-2))
        return mixed

    def forward(self, x: Tensor, rotation: Rotation | None = None, mask: Tensor | None = None) -> Tensor:
        """Tokens ``[B, N, D]`` to what each reads of all, ``[B, N, D]``."""
        return self.attend(*self.project(x, rotation), mask)


class MLP(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden)
        self.fc2 = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., D]``."""
        mixed: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return mixed


class Block(nn.Module):
    """Attention and an MLP, each behind a layer norm and beside a residual; the MLP has ``int(width * mlp_ratio)``."""

    def __init__(
        self, width: int, heads: int, *, mlp_ratio: float = 4.0, eps: float = 1e-6, qkv_bias: bool = True
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads, qkv_bias=qkv_bias)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, int(width * mlp_ratio))

    def forward(self, x: Tensor, rotation: Rotation | None = None, mask: Tensor | None = None) -> Tensor:
        """Tokens ``[B, N, D]`` to tokens ``[B, N, D]``; ``mask [N, N]`` is True where a token may be read."""
        x = x + self.attn(self.norm1(x), rotation, mask)
        mixed: Tensor = x + self.mlp(self.norm2(x))
        return mixed
