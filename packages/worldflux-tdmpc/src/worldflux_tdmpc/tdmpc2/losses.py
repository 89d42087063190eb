"""What TD-MPC2 minimises, as pure functions of tensors. Letters: H steps, B sequences, Q critics, D latent.

Every loss is a mean over steps and sequences under a ``weight`` ``[H, B]``.
Source: Hansen et al. 2024, equations 3 to 5, and nicklashansen/tdmpc2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import twohot


def step_weight(valid: Tensor, *, rho: float) -> Tensor:
    """``rho ** step``, and 0 where ``valid [H, B]`` is."""
    steps = torch.arange(len(valid), device=valid.device, dtype=torch.float32)
    return (rho**steps).unsqueeze(-1) * valid


def td_target(reward: Tensor, terminal: Tensor, value: Tensor, discount: Tensor | float) -> Tensor:
    """``reward + discount * (1 - terminal) * value``, all ``[H, B]``; ``value`` is that of the state arrived in."""
    return reward + discount * (1 - terminal) * value


def consistency_loss(latents: Tensor, seen: Tensor, weight: Tensor) -> Tensor:
    """Squared error (mean over D) of predicted latents ``[H, B, D]``; the encoded ones ``seen`` learn nothing."""
    return ((latents - seen.detach()).square().mean(-1) * weight).mean()


def value_loss(logits: Tensor, target: Tensor, weight: Tensor, *, limit: float) -> Tensor:
    """Cross entropy of the critics' logits ``[Q, H, B, bins]`` with TD targets ``[H, B]``, mean over the critics."""
    return (twohot.cross_entropy(logits, target.detach(), limit=limit) * weight).mean()


def behaviour_loss(action: Tensor, done: Tensor, weight: Tensor) -> Tensor:
    """Squared distance (sum over A) of the policy's actions ``[H, B, A]`` from those that were ``done``.

    It holds values and plans to what the data shows. Source: Fujimoto and Gu 2021 (TD3+BC), equation 3; for TD-MPC2 Lin
    et al. 2025, "TD-M(PC)^2: Improving Temporal Difference MPC Through Policy Constraint", with a likelihood.
    """
    return ((action - done).square().sum(-1) * weight).mean()


def policy_loss(value: Tensor, entropy: Tensor, weight: Tensor, *, entropy_coef: float) -> Tensor:
    """Minus (scaled value + bonus for entropy), both ``[H + 1, B]``."""
    return (-(entropy_coef * entropy + value) * weight).mean()
