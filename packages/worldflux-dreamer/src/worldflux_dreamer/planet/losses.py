"""Losses of PlaNet as functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor

Normal = tuple[Tensor, Tensor]  # mean and standard deviation


def free(divergence: Tensor, nats: float) -> Tensor:
    """A divergence of which the first ``nats`` cost nothing: where there are fewer there is no gradient."""
    return divergence.clamp(min=nats)


def half_squared_error(mean: Tensor, target: Tensor, *, rank: int) -> Tensor:
    """Minus the log likelihood under unit normals, but for a constant: summed over the ``rank`` event axes."""
    error = 0.5 * (mean - target).square()
    return error.flatten(error.ndim - rank).sum(-1) if rank else error


def averaged(values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean over rows, each by its weight."""
    return values.mean() if weight is None else (values * weight).sum() / weight.sum().clamp(min=torch.finfo().eps)
