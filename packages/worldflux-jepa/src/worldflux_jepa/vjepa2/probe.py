"""The attentive probe: what frozen tokens know, read by attention and named by one linear layer.

Letters: B clips, N tokens, Q queries, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux import CheckpointError, ConfigurationError
from worldflux.blocks import Linear, load_official, read_torch

from ..layers.attention import MLP, Block
from ..layers.official import bare, blocks_in, ratio_of
from ..layers.weights import STD, initialise


class CrossAttention(nn.Module):
    """What a few queries read of tokens; nothing is projected behind it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ConfigurationError(f"a width of {width} cannot be split into {heads} heads: it must be a multiple")
        self.heads = heads
        self.q = Linear(width, width)
        self.kv = Linear(width, 2 * width)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Queries ``[B, Q, D]`` and tokens ``[B, N, D]`` to what is read ``[B, Q, D]``."""
        query = self.q(queries).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.kv(tokens).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(-2)


class CrossBlock(nn.Module):
    """Cross-attention to normed tokens and an MLP, each beside a residual of the queries."""

    def __init__(self, width: int, heads: int, *, mlp_ratio: float, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.xattn = CrossAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, int(width * mlp_ratio))

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Queries ``[B, Q, D]`` and tokens ``[B, N, D]`` to queries ``[B, Q, D]``."""
        queries = queries + self.xattn(queries, self.norm1(tokens))
        read: Tensor = queries + self.mlp(self.norm2(queries))
        return read


class AttentivePooler(nn.Module):
    """``depth - 1`` blocks of self-attention without positions, then learned queries that read by cross-attention.

    ``complete`` False leaves of the last block the bare attention. Parameters are called as the official ones.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        depth: int = 1,
        queries: int = 1,
        mlp_ratio: float = 4.0,
        eps: float = 1e-5,
        complete: bool = True,
    ) -> None:
        super().__init__()
        self.query_tokens = nn.Parameter(torch.zeros(1, queries, width))
        self.cross_attention_block = (
            CrossBlock(width, heads, mlp_ratio=mlp_ratio, eps=eps) if complete else CrossAttention(width, heads)
        )
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio=mlp_ratio, eps=eps) for _ in range(depth - 1))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens ``[B, N, D]`` to what the queries read of them ``[B, Q, D]``."""
        for block in self.blocks:
            tokens = block(tokens)
        read: Tensor = self.cross_attention_block(self.query_tokens.expand(len(tokens), -1, -1), tokens)
        return read


class AttentiveProbe(nn.Module):
    """A pooler of one query and a linear layer: classes of clips, from the tokens of a frozen encoder.

    The official one has 16 heads and ``depth`` 4. Weights are drawn from ``seed``.

    Source: Bardes et al. 2024, "Revisiting Feature Prediction for Learning Visual Representations from Video".
    """

    def __init__(
        self,
        width: int,
        classes: int,
        *,
        heads: int = 16,
        depth: int = 4,
        mlp_ratio: float = 4.0,
        eps: float = 1e-5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if min(width, classes, heads, depth) < 1:
            raise ConfigurationError(
                f"a probe needs at least one of each, got width {width}, classes {classes}, heads {heads}, "
                f"depth {depth}"
            )
        self.pooler = AttentivePooler(width, heads, depth=depth, mlp_ratio=mlp_ratio, eps=eps)
        self.linear = Linear(width, classes)
        generator = torch.Generator().manual_seed(seed)
        initialise(self, generator=generator)
        nn.init.trunc_normal_(self.pooler.query_tokens, std=STD, generator=generator)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens ``[B, N, D]`` to logits ``[B, classes]``."""
        logits: Tensor = self.linear(self.pooler(tokens).squeeze(1))
        return logits


def load_probe(source: Mapping[str, Any] | str | Path, *, heads: int = 16, which: int = 0) -> AttentiveProbe:
    """Build an attentive probe from official weights, in evaluation mode.

    Args:
        source: a ``.pt`` file of the official evaluation, which holds several probes, or a mapping of the names of one.
        heads: how many heads it has, which weights do not tell.
        which: the number of the probe in the file.

    Raises:
        ConfigurationError: there is no such probe, or names or shapes are not those of one.
        CheckpointError: the file is missing, or holds no probes.
    """
    held = source if isinstance(source, Mapping) else read_torch(Path(source), example="ssv2-vitl-16x2x3.pt")
    if "classifiers" in held:
        probes = held["classifiers"]
        if not isinstance(probes, (list, tuple)) or not 0 <= which < len(probes):
            raise ConfigurationError(f"which is {which!r}, the file holds probes 0 to {len(probes) - 1}")
        held = probes[which]
    if not isinstance(held, Mapping) or not all(isinstance(value, Tensor) for value in held.values()):
        raise CheckpointError(f"{source} holds no probe: expected {{'classifiers': [{{name: tensor}}]}}")
    weights = bare(held)
    for name in ("linear.weight", "pooler.cross_attention_block.mlp.fc1.weight"):
        if name not in weights:
            raise ConfigurationError(
                f"the probe lacks {name!r}, it holds {sorted(weights)[:3]} ({len(weights)} names in all)"
            )
    classes, width = weights["linear.weight"].shape
    hidden = weights["pooler.cross_attention_block.mlp.fc1.weight"].shape[0]
    depth = blocks_in(weights, "pooler.blocks") + 1
    probe = AttentiveProbe(width, classes, heads=heads, depth=depth, mlp_ratio=ratio_of(hidden, width))
    load_official(probe, weights, {name: name for name in probe.state_dict()})
    return probe.eval()
