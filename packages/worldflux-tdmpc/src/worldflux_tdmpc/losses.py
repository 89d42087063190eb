"""What TD-MPC2 minimises, as pure functions of tensors. Letters: H steps, B sequences, Q critics, D latent.

Every loss is a mean over the sequences at each step, weighed by ``rho ** step``. ``valid [H, B]`` is 0 for steps that do
not count (None: all do). Source: Hansen et al. 2024, equations 3 to 5, and nicklashansen/tdmpc2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from . import twohot


def over_time(loss: Tensor, *, rho: float, valid: Tensor | None) -> Tensor:
    """Return the mean over H of ``rho ** step`` times the mean over B of a loss ``[H, B]``."""
    loss = loss if valid is None else loss * valid
    weight = rho ** torch.arange(loss.shape[0], device=loss.device, dtype=loss.dtype)
    return (loss.mean(1) * weight).mean()


def td_target(reward: Tensor, terminal: Tensor, value: Tensor, discount: Tensor | float) -> Tensor:
    """``reward + discount * (1 - terminal) * value``, all ``[H, B]``; ``value`` is that of the state arrived in."""
    return reward + discount * (1 - terminal) * value


def consistency_loss(latents: Tensor, seen: Tensor, *, rho: float, valid: Tensor | None) -> Tensor:
    """Squared error (mean over D) of predicted latents ``[H, B, D]``; the encoded ones ``seen`` learn nothing."""
    return over_time((latents - seen.detach()).square().mean(-1), rho=rho, valid=valid)


def reward_loss(logits: Tensor, reward: Tensor, *, limit: float, rho: float, valid: Tensor | None) -> Tensor:
    """Cross entropy of reward logits ``[H, B, bins]`` with rewards ``[H, B]`` as two bins."""
    return over_time(twohot.cross_entropy(logits, reward, limit=limit), rho=rho, valid=valid)


def value_loss(logits: Tensor, target: Tensor, *, limit: float, rho: float, valid: Tensor | None) -> Tensor:
    """Cross entropy of the critics' logits ``[Q, H, B, bins]`` with TD targets ``[H, B]``, mean over the critics."""
    target = target.detach().expand(logits.shape[:-1])
    return over_time(twohot.cross_entropy(logits, target, limit=limit).mean(0), rho=rho, valid=valid)


def termination_loss(logits: Tensor, terminal: Tensor, *, valid: Tensor | None) -> Tensor:
    """Binary cross entropy of logits ``[H, B]`` that the state arrived in is terminal; no step weighs more."""
    loss = F.binary_cross_entropy_with_logits(logits, terminal, reduction="none")
    return over_time(loss, rho=1.0, valid=valid)


def policy_loss(value: Tensor, entropy: Tensor, *, entropy_coef: float, rho: float, valid: Tensor | None) -> Tensor:
    """Minus (scaled value + bonus for entropy), both ``[H + 1, B]``."""
    return over_time(-(entropy_coef * entropy + value), rho=rho, valid=valid)
