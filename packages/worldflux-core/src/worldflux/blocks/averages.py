"""What moves slowly after something else: copies of networks, and the scale of inputs."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def ema_(targets: Iterable[Tensor], sources: Iterable[Tensor], rate: float) -> None:
    """Move each target by ``rate`` of the way to its source, in place: ``target += rate * (source - target)``.

    Parameters or buffers, in the same order.
    """
    torch._foreach_lerp_([*targets], [*sources], rate)


class Standardiser(nn.Module):
    """Takes the mean off and divides by the deviation of what it has been shown.

    Each batch weighs as much as each before it, until ``MEMORY`` of them were seen; then the oldest are forgotten.
    """

    MEMORY = 100
    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def observe(self, x: Tensor, weight: Tensor) -> None:
        """Take note of rows ``[N, D]``, each by its weight ``[N]``; where all weigh nothing, of nothing."""
        total = weight.sum()
        share = (weight / total.clamp(min=1e-6)).unsqueeze(-1)
        mean = (x * share).sum(0)
        variance = ((x - mean).square() * share).sum(0)
        self.batches += (total > 0).long()
        rate = torch.where(total > 0, 1 / self.batches.clamp(1, self.MEMORY), 0.0)
        apart = mean - self.mean
        self.variance.lerp_(variance, rate).add_(rate * (1 - rate) * apart.square())  # that of both together
        self.mean.add_(rate * apart)

    def forward(self, x: Tensor) -> Tensor:
        """Rows ``[N, D]`` standardised; what never varied is only shifted."""
        deviation = self.variance.sqrt()
        return (x - self.mean) / torch.where(deviation < 1e-6, 1.0, deviation)
