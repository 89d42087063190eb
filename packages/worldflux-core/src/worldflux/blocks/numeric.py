"""Numbers on another scale, and numbers as classes."""

from __future__ import annotations

import torch
from torch import Tensor


def symlog(x: Tensor) -> Tensor:
    """``sign(x) ln(1 + |x|)``, of any shape. Source: Hafner et al. 2023 (DreamerV3), eq. 9."""
    return torch.sign(x) * torch.log1p(torch.abs(x))


def symexp(x: Tensor) -> Tensor:
    """The inverse of ``symlog``."""
    return torch.sign(x) * torch.expm1(torch.abs(x))


def one_hot(index: Tensor, classes: int) -> Tensor:
    """Float one-hot vectors ``[..., C]`` of integers ``index [...]``; one that is no class gives zeros."""
    return (index.unsqueeze(-1) == torch.arange(classes, device=index.device)).float()


def percentiles(values: Tensor, *percents: float) -> tuple[Tensor, ...]:
    """The percentiles ``[]`` (0 to 100) of values of any shape and number, interpolated; without gradients."""
    ordered = values.detach().float().flatten().sort().values  # torch.quantile takes no more than 16 million values
    found = []
    for percent in percents:
        place = percent / 100 * (len(ordered) - 1)
        below = int(place)
        found.append(torch.lerp(ordered[below], ordered[min(below + 1, len(ordered) - 1)], place - below))
    return tuple(found)
