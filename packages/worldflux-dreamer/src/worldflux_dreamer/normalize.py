"""The percentile normaliser of returns."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ReturnNormalizer(nn.Module):
    """Moving averages of a low and a high percentile; their distance scales the advantages.

    The averages start at zero and are not debiased. ``scale`` is at least ``limit``, so that small returns are not
    blown up. Source: Hafner et al. 2023, "Critic learning" and "Actor learning".
    """

    lo: Tensor
    hi: Tensor

    def __init__(self, *, rate: float = 0.01, limit: float = 1.0, low: float = 5.0, high: float = 95.0) -> None:
        super().__init__()
        self.rate, self.limit, self.low, self.high = rate, limit, low, high
        self.register_buffer("lo", torch.zeros(()))
        self.register_buffer("hi", torch.zeros(()))

    @torch.no_grad()
    def update(self, returns: Tensor) -> None:
        """Move the averages towards the percentiles of ``returns`` of any shape."""
        # torch.quantile refuses more than 16 million values; a sort does not.
        ordered = returns.detach().float().flatten().sort().values
        self.lo.lerp_(_percentile(ordered, self.low), self.rate)
        self.hi.lerp_(_percentile(ordered, self.high), self.rate)

    @property
    def offset(self) -> Tensor:
        """The low average."""
        return self.lo

    @property
    def scale(self) -> Tensor:
        """Distance of the averages, at least ``limit``."""
        return (self.hi - self.lo).clamp(min=self.limit)


def _percentile(ordered: Tensor, percent: float) -> Tensor:
    place = percent / 100 * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return torch.lerp(ordered[below], ordered[above], place - below)
