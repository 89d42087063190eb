"""The predictor: from the tokens of a context to those that were hidden.

Letters: B batch, K tokens of the context, M hidden ones, D width of the encoder, P of the predictor.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldflux.blocks import Linear

from ..layers.attention import Block
from ..layers.rope import positions_of, rotation_of
from .config import VJEPA2Config


class Predictor(nn.Module):
    """A narrower transformer that reads the context beside a mask token in every hidden place.

    Attention knows where tokens are by their rotation alone, so their order does not matter. Mask tokens that the loss
    never reads are frozen. Parameters are called as the official ones.
    """

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        width = config.pred_embed_dim
        self.head_dim, self.layout = width // config.pred_num_heads, config.rope_layout
        self.predictor_embed = Linear(config.embed_dim, width)
        self.mask_tokens = nn.ParameterList(
            nn.Parameter(torch.zeros(1, 1, width), requires_grad=index in config.trained_tokens)
            for index in range(config.num_mask_tokens)
        )
        self.predictor_blocks = nn.ModuleList(
            Block(
                width,
                config.pred_num_heads,
                mlp_ratio=config.pred_mlp_ratio,
                eps=config.predictor_eps,
                qkv_bias=config.qkv_bias,
            )
            for _ in range(config.pred_depth)
        )
        self.predictor_norm = nn.LayerNorm(width, eps=config.predictor_eps)
        self.predictor_proj = Linear(width, config.embed_dim)

    def predict(
        self, context: Tensor, context_ids: Tensor, target_ids: Tensor, *, grid: tuple[int, int], token: int = 0
    ) -> Tensor:
        """Tokens ``[B, K, D]`` at ``context_ids [B, K]`` to predictions ``[B, M, D]`` at ``target_ids [B, M]``.

        ``grid`` is rows and columns of patches; ``token`` says which mask token stands for what is hidden, counted
        on from the first behind the last.
        """
        hidden = self.mask_tokens[token % len(self.mask_tokens)].expand(*target_ids.shape, -1)
        x = torch.cat([self.predictor_embed(context), hidden.to(context)], 1)
        ids = torch.cat([context_ids, target_ids], 1)
        rotation = rotation_of(positions_of(ids, rows=grid[0], columns=grid[1]), self.head_dim, self.layout)
        for block in self.predictor_blocks:
            x = block(x, rotation)
        predicted: Tensor = self.predictor_proj(self.predictor_norm(x[:, context.shape[1] :]))
        return predicted
