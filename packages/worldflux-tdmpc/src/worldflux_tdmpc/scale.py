"""The scale of values, by which the policy's loss is divided."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PERCENTILES = (5.0, 95.0)


class RunningScale(nn.Module):
    """A moving average of the distance between two percentiles of values, at least 1; it is saved with the model."""

    value: Tensor

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("value", torch.ones(()))

    @torch.no_grad()
    def update(self, values: Tensor) -> None:
        """Move the average towards what these values, of any shape, show."""
        low, high = percentiles(values)
        self.value.lerp_((high - low).clamp(min=1.0).to(self.value), self.rate)


def percentiles(values: Tensor) -> tuple[Tensor, Tensor]:
    """The 5th and the 95th percentile, interpolated."""
    ordered = values.detach().float().flatten().sort().values
    found = []
    for percent in PERCENTILES:
        place = percent / 100 * (len(ordered) - 1)
        below = int(place)
        found.append(torch.lerp(ordered[below], ordered[min(below + 1, len(ordered) - 1)], place - below))
    return found[0], found[1]
