"""What a predictor in representation space minimises, as pure functions of tensors.

Letters: B batch, T time, D latent, M random directions. Statistics are those of axis -2, the batch, and of all
processes' parts of it; what stands on axes before it (time steps, patches) has statistics of its own each, of which the
mean is taken. They are computed in float32 under autocast.
Sources: Bardes et al. 2022 (VICReg); Balestriero & LeCun 2025 (SIGReg); Sobal et al. 2025 (PLDM).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layers.ranks import added_up, mean_of_parts, processes

Distance = Literal["mse", "l1", "smooth_l1", "cosine"]


def distance(prediction: Tensor, target: Tensor, *, kind: Distance) -> Tensor:
    """How far ``prediction [..., D]`` is from ``target [..., D]``, a mean over D: ``[...]``."""
    if kind == "cosine":
        return 1 - F.cosine_similarity(prediction, target, dim=-1, eps=1e-8)
    by_name = {"mse": F.mse_loss, "l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss}
    return by_name[kind](prediction, target, reduction="none").mean(-1)


def mean_where(values: Tensor, valid: Tensor) -> Tensor:
    """The mean of ``values [B, T, ...]`` over the rows where ``valid [B, T]`` is 1; 0 where it is 1 nowhere."""
    rows = values.flatten(2).mean(-1) if values.ndim > 2 else values
    return (rows * valid).sum() / valid.sum().clamp(min=1)


# --- every dimension varies, and tells something of its own: VICReg -------------------------------------------------


def std_hinge(x: Tensor, *, margin: float = 1.0, eps: float = 1e-4) -> Tensor:
    """By how much the standard deviation of each dimension of ``x [..., B, D]`` is below ``margin``, a mean.

    ``eps`` is added to the variance. Given ``[T, B, D]`` it is PLDM's, per time step; given all rows of all steps as
    one batch it is eb_jepa's, which does not see that a batch is the same at every step.
    """
    with _full_precision(x):
        centred, rows = _centred(x)
        return _hinge(added_up(centred.square().sum(-2)) / (rows - 1), margin, eps)


def covariance(x: Tensor) -> Tensor:
    """The mean squared covariance of two dimensions of ``x [..., B, D]``. Batches as in ``std_hinge``."""
    with _full_precision(x):
        centred, rows = _centred(x)
        return _off_diagonal(added_up(centred.mT @ centred) / (rows - 1))


def std_hinge_over_time(x: Tensor, *, margin: float = 1.0, eps: float = 1e-4) -> Tensor:
    """``std_hinge`` of every sequence of ``x [..., B, T, D]`` over its time steps, less the batch's mean at each."""
    with _full_precision(x):
        return _hinge(_centred(x.transpose(-3, -2))[0].var(-3), margin, eps)


def covariance_over_time(x: Tensor) -> Tensor:
    """``covariance`` of every sequence of ``x [..., B, T, D]`` over its time steps.

    What is taken away is the batch's mean, not the sequence's own, as in PLDM.
    """
    with _full_precision(x):
        rows = _centred(x.transpose(-3, -2))[0].transpose(-3, -2)
        return _off_diagonal(rows.mT @ rows / (rows.shape[-2] - 1))


def vicreg(first: Tensor, second: Tensor, *, std_weight: float, cov_weight: float) -> dict[str, Tensor]:
    """VICReg of two views ``[B, D]`` of the same, by term; of the views the terms are added up."""
    both = (first, second)
    return {
        "invariance": F.mse_loss(first, second),
        "std": std_weight * sum(map(std_hinge, both), first.new_zeros(())),
        "cov": cov_weight * sum(map(covariance, both), first.new_zeros(())),
    }


# --- the batch is like a Gaussian from wherever it is looked at: SIGReg ---------------------------------------------


def sigreg(x: Tensor, directions: Tensor, *, knots: int = 17) -> Tensor:
    """SIGReg of ``x [..., B, D]``, seen along ``directions [..., D, M]`` of any length: B times the weighed distance
    of characteristic functions on ``knots`` points of [0, 3], both halves of the line counted, a mean over M.

    Where all rows of ``x`` are equal its gradient is zero: it keeps from collapse and does not lead out of it.
    """
    with _full_precision(x):
        points = torch.linspace(0, 3, knots, device=x.device)
        return sigreg_statistic(along(x, directions), points, both_halves=True, times_rows=True).mean()


def bcs(first: Tensor, second: Tensor, directions: Tensor, *, weight: float, points: int = 10) -> dict[str, Tensor]:
    """Two views ``[B, D]`` of the same, each like a Gaussian: eb_jepa's variant, by term.

    Its points are those of [-3, 3], the statistic is not times B, and of the views the mean is taken.
    """
    with _full_precision(first):
        at = torch.linspace(-3, 3, points, device=first.device)
        shapes = [sigreg_statistic(along(view, directions), at).mean() for view in (first, second)]
        return {"invariance": F.mse_loss(first, second), "bcs": weight * (shapes[0] + shapes[1]) / 2}


def along(x: Tensor, directions: Tensor) -> Tensor:
    """``x [..., B, D]`` seen along ``directions [..., D, M]``, which are brought to length 1: ``[..., B, M]``."""
    directions = _full(directions)
    return _full(x) @ (directions / directions.norm(dim=-2, keepdim=True))


def sigreg_statistic(
    projections: Tensor, points: Tensor, *, both_halves: bool = False, times_rows: bool = False
) -> Tensor:
    """The Epps-Pulley statistic ``[..., M]`` of ``projections [..., B, M]`` against a unit Gaussian.

    The squared distance of the characteristic functions at ``points``, weighed by the Gaussian's own, is integrated by
    trapezoids; ``both_halves`` doubles it, ``times_rows`` multiplies it by B.
    """
    gaussian = (-points.square() / 2).exp()
    # Point by point: all of them at once would leave the processor's cache, and take three times as long.
    cosine, sine = (
        mean_of_parts(torch.stack([wave(projections * point).mean(-2) for point in points], -1))
        for wave in (torch.cos, torch.sin)
    )
    error = (cosine - gaussian).square() + sine.square()
    statistic = torch.trapezoid(error * gaussian, points, dim=-1)
    rows = projections.shape[-2] * processes() if times_rows else 1
    return statistic * (2 if both_halves else 1) * rows


# --- what follows in time ------------------------------------------------------------------------------------------


def time_similarity(x: Tensor) -> Tensor:
    """The squared distance of consecutive rows of ``x [B, T, ..., D]``, a mean over D: ``[B, T - 1, ...]``."""
    return (x[:, 1:] - x[:, :-1]).square().mean(-1)


def straightening(x: Tensor) -> Tensor:
    """Minus the cosine of consecutive steps of ``x [B, T, ..., D]``: ``[B, T - 2, ...]``, -1 on a straight line."""
    steps = x[:, 1:] - x[:, :-1]
    return -F.cosine_similarity(steps[:, :-1], steps[:, 1:], dim=-1, eps=1e-8)


# --- shared --------------------------------------------------------------------------------------------------------


def _full_precision(x: Tensor) -> torch.autocast:
    return torch.autocast(x.device.type, enabled=False)


def _full(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _centred(x: Tensor) -> tuple[Tensor, int]:
    """``x [..., B, D]`` without its mean over the batch, and the rows of the whole batch."""
    x = _full(x)
    return x - mean_of_parts(x.mean(-2, keepdim=True)), x.shape[-2] * processes()


def _hinge(variance: Tensor, margin: float, eps: float) -> Tensor:
    return F.relu(margin - (variance + eps).sqrt()).mean()


def _off_diagonal(matrices: Tensor) -> Tensor:
    """The mean square of what is off the diagonals of ``matrices [..., D, D]``."""
    size = matrices.shape[-1]
    others = ~torch.eye(size, dtype=torch.bool, device=matrices.device)
    return (matrices.square() * others).sum((-2, -1)).mean() / max(1, size * (size - 1))
