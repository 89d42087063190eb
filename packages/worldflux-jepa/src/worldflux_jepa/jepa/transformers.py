"""Predictors that are causal transformers over the rows of a window. The slot ``dynamics_model``.

Letters: B windows, W rows, N latents of a row, D latent, A action, L = W * N tokens.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux.blocks import Linear

from ..layers.transformer import Block, ModulatedBlock
from .config import JEPAConfig
from .predictors import Cell, Predictor, ResidualMLP, drawing
from .window import Window, spread


class Transformer(Predictor):
    """Every latent of a row looks at those of its own and of earlier rows; a learned position for each of them.

    ``sequence`` predicts what follows each row of a clip in one pass.
    """

    def __init__(self, config: JEPAConfig, *, inputs: int, outputs: int | None = None) -> None:
        super().__init__(config, outputs=outputs)
        self.positions = nn.Parameter(torch.zeros(config.history * config.num_tokens, inputs))

    def predict(self, window: Window, generator: torch.Generator | None) -> Tensor:
        """See ``Predictor``."""
        return self.rows(window, generator)[:, -1]

    def rows(self, window: Window, generator: torch.Generator | None) -> Tensor:
        """What follows each row of the window, ``[B, W, N, D]``."""
        _, count, tokens, _ = window.latents.shape
        places = self.positions.unflatten(0, (-1, tokens))[window.place]
        x = self.joined(window) + places
        mask = window.seen.repeat_interleave(tokens, 1).repeat_interleave(tokens, 2)
        return self.blocks_of(x.flatten(1, 2), window, mask, generator).unflatten(1, (count, tokens))

    def sequence(self, latents: Tensor, conditioned: dict[str, Tensor], begun: Tensor) -> Tensor:
        """What follows each row of clips ``[B, T, ...]`` of at most W rows; ``begun [B, T]`` is as ``Window``'s."""
        window = Window(spread(latents, self.tokens), conditioned["action"].to(latents), begun)
        ahead = self.headed(self.rows(window, drawing(conditioned, latents.device)))
        return ahead.squeeze(-2) if self.tokens == 1 else ahead

    @abstractmethod
    def joined(self, window: Window) -> Tensor:
        """Tokens ``[B, W, N, inputs]``."""

    @abstractmethod
    def blocks_of(self, x: Tensor, window: Window, mask: Tensor, generator: torch.Generator | None) -> Tensor:
        """Tokens ``[B, L, inputs]`` to what they predict, ``[B, L, D]``."""


class ModulatedTransformer(Transformer):
    """Latents as tokens; the action of their row modulates each block. Source: Maes et al. 2026 (LeWM)."""

    def __init__(self, config: JEPAConfig) -> None:
        width = config.units or config.latent_dim
        outputs = (config.head_inputs or width) if config.head_units else config.latent_dim
        super().__init__(config, inputs=config.latent_dim, outputs=outputs)
        self.actions = ActionEmbedding(config.action_dim, units=config.action_units, outputs=config.latent_dim)
        self.blocks = ModulatedBlocks(config, inputs=config.latent_dim, width=width, outputs=outputs)

    def joined(self, window: Window) -> Tensor:
        """See ``Transformer``."""
        return window.latents

    def blocks_of(self, x: Tensor, window: Window, mask: Tensor, generator: torch.Generator | None) -> Tensor:
        """See ``Transformer``."""
        condition = self.actions(window.actions).repeat_interleave(window.latents.shape[2], 1)
        return self.blocks(x, condition, mask, generator)


class ActionEmbedding(nn.Module):
    """A linear layer of ``units``, and an MLP four times as wide as the embedding."""

    def __init__(self, actions: int, *, units: int, outputs: int) -> None:
        super().__init__()
        self.smooth = Linear(actions, units)
        self.first, self.second = Linear(units, 4 * outputs), Linear(4 * outputs, outputs)

    def forward(self, action: Tensor) -> Tensor:
        """``[..., A]`` to ``[..., D]``."""
        return self.second(F.silu(self.first(self.smooth(action.float()))))


class ModulatedBlocks(nn.Module):
    """Blocks and a last norm; where widths differ linear layers lead in, for tokens and conditions, and out."""

    def __init__(self, config: JEPAConfig, *, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.lead = Linear(inputs, width) if inputs != width else None
        self.lead_condition = Linear(inputs, width) if inputs != width else None
        self.layers = nn.ModuleList(
            ModulatedBlock(
                width, heads=config.heads, head_dim=config.head_dim, units=config.mlp_units, dropout=config.dropout
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width)
        self.out = Linear(width, outputs) if outputs != width else None

    def forward(self, x: Tensor, condition: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Tokens and conditions ``[B, L, inputs]``, ``mask [B, L, L]``, to ``[B, L, outputs]``."""
        if self.lead is not None and self.lead_condition is not None:
            x, condition = self.lead(x), self.lead_condition(condition)
        for layer in self.layers:
            x = layer(x, condition, mask, generator)
        x = self.norm(x)
        return x if self.out is None else self.out(x)


class ConcatTransformer(Transformer):
    """Latents with the action's embedding beside them as tokens. Source: Zhou et al. 2024 (DINO-WM), §3.2."""

    def __init__(self, config: JEPAConfig) -> None:
        width = config.latent_dim + config.action_units
        super().__init__(config, inputs=width)
        self.actions = Linear(config.action_dim, config.action_units)
        self.layers = nn.ModuleList(
            Block(width, heads=config.heads, head_dim=config.head_dim, units=config.mlp_units, dropout=config.dropout)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width)

    def joined(self, window: Window) -> Tensor:
        """See ``Transformer``."""
        told = self.actions(window.actions.float()).unsqueeze(2).expand(-1, -1, window.latents.shape[2], -1)
        return torch.cat([window.latents, told], -1)

    def blocks_of(self, x: Tensor, window: Window, mask: Tensor, generator: torch.Generator | None) -> Tensor:
        """See ``Transformer``; the channels of the action are left out."""
        return self.everything(x, mask, generator)[..., : window.latents.shape[-1]]

    def everything(self, x: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Tokens ``[B, L, width]`` to what is predicted of all their channels, the action's, too."""
        for layer in self.layers:
            x = layer(x, mask, generator)
        return self.norm(x)


KINDS: dict[str, type[Predictor]] = {
    "mlp": ResidualMLP,
    "gru": Cell,
    "adaln": ModulatedTransformer,
    "concat": ConcatTransformer,
}
