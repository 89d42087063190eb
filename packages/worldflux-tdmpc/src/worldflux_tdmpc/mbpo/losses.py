"""What MBPO minimises, as pure functions of tensors. Letters: E networks, N rows, D outputs, Q critics.

Sources: Janner et al. 2019 and jannerm/mbpo; Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_bounded(log_variance: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Log-variances ``[..., D]`` held between ``low`` and ``high`` ``[D]``, without a kink."""
    log_variance = high - F.softplus(high - log_variance)
    return low + F.softplus(log_variance - low)


def gaussian_nll(mean: Tensor, log_variance: Tensor, target: Tensor, weight: Tensor, rows: Tensor) -> Tensor:
    """``(mean - target)^2 exp(-lv) + lv``, mean over D, weighted ``[E, N]``, over ``rows`` rows, summed over networks.

    Twice the negative log-likelihood but for a constant. ``mean`` and ``log_variance`` are ``[E, N, D]``.
    """
    value = ((mean - target).square() * torch.exp(-log_variance) + log_variance).mean(-1)
    return (value * weight).sum() / rows


def weight_decay(weights: list[Tensor], decays: tuple[float, ...]) -> Tensor:
    """``decay / 2 * |W|^2`` of each layer ``[E, out, in]``, summed."""
    return torch.stack([0.5 * decay * weight.square().sum() for weight, decay in zip(weights, decays)]).sum()


def td_target(
    reward: Tensor, terminal: Tensor, value: Tensor, entropy: Tensor, *, alpha: Tensor, discount: float
) -> Tensor:
    """``reward + discount (1 - terminal) (min_Q value + alpha entropy)`` ``[N]``; ``value`` is ``[Q, N]``."""
    return reward + discount * (1 - terminal) * (value.amin(0) + alpha * entropy)


def critic_loss(value: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Half the squared error of values ``[Q, N]``, weighted mean over rows, summed over critics."""
    return averaged(0.5 * (value - target.detach()).square().sum(0), weight)


def actor_loss(value: Tensor, entropy: Tensor, weight: Tensor, *, alpha: Tensor) -> Tensor:
    """``-(alpha entropy + min_Q value)``, weighted mean over rows; the temperature learns nothing from it."""
    return averaged(-(alpha.detach() * entropy + value.amin(0)), weight)


def temperature_loss(log_alpha: Tensor, entropy: Tensor, weight: Tensor, *, wanted: float) -> Tensor:
    """``log_alpha (entropy - wanted)``, weighted mean over rows: it rises while the policy's entropy is lower."""
    return averaged(log_alpha * (entropy.detach() - wanted), weight)


def averaged(values: Tensor, weight: Tensor) -> Tensor:
    """Mean over rows ``[N]``, each by its weight; 0 where none has any."""
    return (values * weight).sum() / weight.sum().clamp(min=1e-6)
