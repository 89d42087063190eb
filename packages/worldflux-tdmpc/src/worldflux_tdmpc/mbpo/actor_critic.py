"""The policy and the critics that judge it: soft actor-critic.

Source: Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications".
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import MBPOConfig
from .networks import Stack, mlp, relu

LOG_STD = (-20.0, 2.0)


class Actor(nn.Module):
    """A normal distribution squashed by tanh."""

    def __init__(self, config: MBPOConfig) -> None:
        super().__init__()
        self.size = config.actions.dim
        self.net = mlp([config.obs_size, config.hidden_dim, config.hidden_dim, 2 * self.size], nn.ReLU)

    def noise(self, *shape: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """Standard normal numbers ``[*shape, A]``."""
        return torch.randn(*shape, self.size, generator=generator, device=device)

    def moments(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log deviation ``[N, A]`` before squashing."""
        mean, log_std = self.net(obs).float().chunk(2, -1)
        return mean, log_std.clamp(*LOG_STD)

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions ``[N, A]`` in [-1, 1]; without noise the squashed mean."""
        mean, log_std = self.moments(obs)
        return torch.tanh(mean if noise is None else mean + log_std.exp() * noise)

    def sample(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions ``[N, A]`` and the log of their density ``[N]`` after squashing."""
        mean, log_std = self.moments(obs)
        raw = mean + log_std.exp() * noise
        density = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        squash = 2 * (math.log(2) - raw - F.softplus(-2 * raw))  # log(1 - tanh(raw)^2), exactly
        return torch.tanh(raw), (density - squash).sum(-1)


class Critics(Stack):
    """Two estimates of the return of doing an action and following the policy from there on."""

    def __init__(self, config: MBPOConfig, *, frozen: bool = False) -> None:
        sizes = [config.obs_size + config.actions.dim, config.hidden_dim, config.hidden_dim, 1]
        super().__init__(2, sizes, relu, frozen=frozen)

    def values(self, obs: Tensor, action: Tensor, *, detach: bool = False) -> Tensor:
        """Values ``[2, N]`` of observations ``[N, O]`` and actions ``[N, A]``; ``detach`` cuts the weights off."""
        return self(torch.cat([obs, action], -1), detach=detach).squeeze(-1).float()
