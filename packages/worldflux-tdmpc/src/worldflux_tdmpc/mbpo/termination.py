"""Where episodes end: known functions of ``(obs [B, O], action [B, A], next_obs [B, O])``, or a head that learns it.

What a function returns is ``[B]``: booleans, or the probability that the episode ended. The known ones are those of
jannerm/mbpo, for observations as Gymnasium gives them (without the position along the track).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux.blocks import Standardiser, dense

from .config import MBPOConfig

Termination = Callable[[Tensor, Tensor, Tensor], Tensor]


def never(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """Episodes do not end (HalfCheetah, Pendulum, ...)."""
    return next_obs.new_zeros(next_obs.shape[:-1], dtype=torch.bool)


def hopper(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """It fell (height 0.7 or less, or 0.2 rad or more off upright), or a number is 100 or more."""
    height, angle = next_obs[..., 0], next_obs[..., 1]
    sane = next_obs.isfinite().all(-1) & (next_obs[..., 1:].abs() < 100).all(-1)
    return ~(sane & (height > 0.7) & (angle.abs() < 0.2))


def walker2d(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """Its height left (0.8, 2), or it is 1 rad or more off upright."""
    height, angle = next_obs[..., 0], next_obs[..., 1]
    return ~((height > 0.8) & (height < 2.0) & (angle.abs() < 1.0))


def ant(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """Its height left [0.2, 1], or a number is not finite."""
    height = next_obs[..., 0]
    return ~(next_obs.isfinite().all(-1) & (height >= 0.2) & (height <= 1.0))


def humanoid(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """Its height left [1, 2]."""
    height = next_obs[..., 0]
    return ~((height >= 1.0) & (height <= 2.0))


def inverted_pendulum(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """The pole is more than 0.2 rad off upright, or a number is not finite."""
    return ~(next_obs.isfinite().all(-1) & (next_obs[..., 1].abs() <= 0.2))


KNOWN: dict[str, Termination] = {
    "mbpo.never": never,
    "mbpo.hopper": hopper,
    "mbpo.walker2d": walker2d,
    "mbpo.ant": ant,
    "mbpo.humanoid": humanoid,
    "mbpo.inverted_pendulum": inverted_pendulum,
}


class LearnedTermination(nn.Module):
    """The probability that an episode ended, learnt from real rows. It starts at 0.01: nothing ends until seen to."""

    START = -4.6  # the logit of 0.01

    def __init__(self, config: MBPOConfig) -> None:
        super().__init__()
        inputs = 2 * config.obs_size + config.actions.dim
        self.standardise = Standardiser(inputs)
        self.net = dense([inputs, config.hidden_dim, config.hidden_dim, 1], nn.SiLU)

    def forward(self, obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        """Probabilities ``[B]``."""
        return torch.sigmoid(self.logits(obs, action, next_obs))

    def logits(self, obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        """Their logits ``[B]``."""
        x = self.standardise(torch.cat([obs, action, next_obs], -1))
        return self.START + self.net(x).squeeze(-1).float()

    def losses(self, obs: Tensor, action: Tensor, next_obs: Tensor, terminal: Tensor, *, weight: Tensor) -> Tensor:
        """Cross entropies ``[B]`` with what was seen; in training it takes note of the rows, each by its weight."""
        if self.training:
            self.standardise.observe(torch.cat([obs, action, next_obs], -1), weight)
        return F.binary_cross_entropy_with_logits(self.logits(obs, action, next_obs), terminal, reduction="none")
