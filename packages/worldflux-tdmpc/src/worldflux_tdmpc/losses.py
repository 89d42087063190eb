"""What TD-MPC2 minimises, as pure functions of tensors. Letters: H steps, B sequences, Q critics, D latent.

Every loss is a mean over steps and sequences under a ``weight`` ``[H, B]`` or ``[H, 1]``, which ``step_weight`` makes.
Source: Hansen et al. 2024, equations 3 to 5, and nicklashansen/tdmpc2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from . import twohot


def step_weight(steps: int, *, rho: float, valid: Tensor | None, device: torch.device) -> Tensor:
    """``rho ** step``, and 0 where ``valid [H, B]`` is (None: every step counts)."""
    weight = (rho ** torch.arange(steps, device=device, dtype=torch.float32)).unsqueeze(-1)
    return weight if valid is None else weight * valid


def td_target(reward: Tensor, terminal: Tensor, value: Tensor, discount: Tensor | float) -> Tensor:
    """``reward + discount * (1 - terminal) * value``, all ``[H, B]``; ``value`` is that of the state arrived in."""
    return reward + discount * (1 - terminal) * value


def consistency_loss(latents: Tensor, seen: Tensor, weight: Tensor) -> Tensor:
    """Squared error (mean over D) of predicted latents ``[H, B, D]``; the encoded ones ``seen`` learn nothing."""
    return ((latents - seen.detach()).square().mean(-1) * weight).mean()


def reward_loss(logits: Tensor, reward: Tensor, weight: Tensor, *, limit: float) -> Tensor:
    """Cross entropy of reward logits ``[H, B, bins]`` with rewards ``[H, B]`` as two bins."""
    return (twohot.cross_entropy(logits, reward, limit=limit) * weight).mean()


def value_loss(logits: Tensor, target: Tensor, weight: Tensor, *, limit: float) -> Tensor:
    """Cross entropy of the critics' logits ``[Q, H, B, bins]`` with TD targets ``[H, B]``, mean over the critics."""
    return (twohot.cross_entropy(logits, target.detach(), limit=limit) * weight).mean()


def termination_loss(logits: Tensor, terminal: Tensor, weight: Tensor) -> Tensor:
    """Binary cross entropy of logits ``[H, B]`` that the state arrived in is terminal."""
    return (F.binary_cross_entropy_with_logits(logits, terminal, reduction="none") * weight).mean()


def policy_loss(value: Tensor, entropy: Tensor, weight: Tensor, *, entropy_coef: float) -> Tensor:
    """Minus (scaled value + bonus for entropy), both ``[H + 1, B]``."""
    return (-(entropy_coef * entropy + value) * weight).mean()
