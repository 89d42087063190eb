"""The policy prior: the action that the critics recommend, which planning starts from."""

from __future__ import annotations

import torch
from torch import Tensor

from worldflux.blocks import CategoricalActor, SquashedNormal

from .config import TDMPC2Config
from .networks import mlp


class GaussianPrior(SquashedNormal):
    """A normal distribution squashed by tanh, rewarded for the entropy it has *before* squashing, times its actions."""

    def sample(self, x: Tensor, noise: Tensor | None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Actions ``[..., A]`` for ``x [..., D + E]``, and the entropy ``[...]``, the official one."""
        raw, density = self.draw(x, noise, mask)
        return torch.tanh(raw), -density.sum(-1) * (raw.shape[-1] if mask is None else mask.sum(-1))


Prior = GaussianPrior | CategoricalActor


def make_prior(config: TDMPC2Config) -> Prior:
    """The prior for a model's actions; its entropy is the exact one where they are discrete."""
    size, inputs, units = config.actions.dim, config.latent_dim + config.embedding_dim, [config.mlp_dim] * 2
    if config.prior == "categorical":
        return CategoricalActor(mlp(inputs, units, size), size)
    net, low, high = mlp(inputs, units, 2 * size), config.log_std_min, config.log_std_max
    return GaussianPrior(net, size, low=low, high=high, smooth=True)
