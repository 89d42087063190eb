"""The policy prior: the action that the critics recommend, which planning starts from."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import TDMPC2Config
from .networks import mlp


class GaussianPrior(nn.Module):
    """A normal distribution squashed by tanh, for continuous actions."""

    def __init__(self, config: TDMPC2Config) -> None:
        super().__init__()
        self.size, self.low, self.high = config.actions.dim, config.log_std_min, config.log_std_max
        self.net = mlp(config.latent_dim + config.embedding_dim, [config.mlp_dim] * 2, 2 * self.size)

    def noise(self, *shape: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """Standard normal numbers ``[*shape, A]``."""
        return torch.randn(*shape, self.size, generator=generator, device=device)

    def moments(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log deviation ``[..., A]`` before squashing; both 0 where an action is masked."""
        mean, raw = self.net(x).float().chunk(2, -1)
        log_std = self.low + 0.5 * (self.high - self.low) * (raw.tanh() + 1)
        return (mean, log_std) if mask is None else (mean * mask, log_std * mask)

    def act(self, x: Tensor, noise: Tensor | None, mask: Tensor | None = None) -> Tensor:
        """Actions ``[..., A]`` in [-1, 1] for ``x [..., D + T]``; without noise the squashed mean."""
        return self.sample(x, noise, mask)[0]

    def sample(self, x: Tensor, noise: Tensor | None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Actions, and the entropy ``[...]`` that the policy is rewarded for.

        It is the official one: minus the log-density *before* squashing, times the number of actions.
        """
        mean, log_std = self.moments(x, mask)
        if noise is None:
            noise = torch.zeros_like(mean)
        elif mask is not None:
            noise = noise * mask
        size = mean.shape[-1] if mask is None else mask.sum(-1)
        log_density = (-0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
        return torch.tanh(mean + log_std.exp() * noise), -log_density * size


class CategoricalPrior(nn.Module):
    """Probabilities of classes, for discrete actions; a sampled one-hot passes gradients on straight through."""

    def __init__(self, config: TDMPC2Config) -> None:
        super().__init__()
        self.size = config.actions.dim
        self.net = mlp(config.latent_dim + config.embedding_dim, [config.mlp_dim] * 2, self.size)

    def noise(self, *shape: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """Gumbel numbers ``[*shape, A]``."""
        drawn = torch.empty(*shape, self.size, device=device).exponential_(generator=generator)
        return -drawn.clamp_min(1e-20).log()

    def act(self, x: Tensor, noise: Tensor | None, mask: Tensor | None = None) -> Tensor:
        """One-hot actions ``[..., A]`` for ``x [..., D + T]``; without noise the likeliest."""
        return self.sample(x, noise, mask)[0]

    def sample(self, x: Tensor, noise: Tensor | None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Actions and their distribution's entropy ``[...]`` in nats; classes that are masked are never taken."""
        logits = self.net(x).float()
        if mask is not None:
            logits = logits.masked_fill(mask == 0, -1e9)
        logp = logits.log_softmax(-1)
        disturbed = logp if noise is None else logp + noise
        hot = F.one_hot(disturbed.argmax(-1), self.size).to(logp.dtype)
        soft = disturbed.softmax(-1)
        return hot + soft - soft.detach(), -(logp.exp() * logp).sum(-1)
