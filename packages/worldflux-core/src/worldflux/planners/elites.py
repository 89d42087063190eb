"""Choosing the best candidates and fitting a distribution to them, environment by environment."""

from __future__ import annotations

import torch
from torch import Tensor


def select(candidates: Tensor, scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` best of ``candidates [E, N, H, A]``, best first, and their scores ``[E, K]``."""
    best, index = scores.topk(count, dim=1)
    return candidates.gather(1, index[:, :, None, None].expand(-1, -1, *candidates.shape[2:])), best


def fit(elites: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Weighted mean and standard deviation (about that mean) ``[E, H, A]`` of ``elites [E, K, H, A]``.

    ``weights [E, K]`` sum to 1; without them all elites weigh the same.
    """
    if weights is None:
        weights = elites.new_full(elites.shape[:2], 1 / elites.shape[1])
    weights = weights[:, :, None, None]
    mean = (weights * elites).sum(1)
    return mean, (weights * (elites - mean.unsqueeze(1)).square()).sum(1).sqrt()


def shift(plan: Tensor, last: Tensor) -> Tensor:
    """A plan ``[..., H, A]`` one step later: its first action is done, ``last [..., A]`` is new."""
    return torch.cat([plan[..., 1:, :], last.expand_as(plan[..., 0, :]).unsqueeze(-2)], -2)
