"""Convolutions that end in a flat vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux.blocks import Conv


def halving_convs(inputs: int, channels: Sequence[int]) -> nn.Sequential:
    """Convolutions with batch norm and ReLU, each halving the image ``[N, C, H, W]``; then flat ``[N, F]``."""
    layers: list[nn.Module] = []
    for before, after in zip((inputs, *channels), channels):
        layers += [Conv(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten())


class Residual(nn.Module):
    """Two convolutions around which the image is passed on."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (Conv(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to the same."""
        return x + self.second(F.relu(self.first(F.relu(x))))


class Impala(nn.Module):
    """A stage for each of ``channels``: a convolution, pooling that halves the image, and two residual blocks.

    Source: Espeholt et al. 2018 (IMPALA), figure 3, the large network.
    """

    def __init__(self, inputs: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    Conv(before, after, 3, padding=1), nn.MaxPool2d(3, 2, padding=1), Residual(after), Residual(after)
                )
                for before, after in zip((inputs, *channels), channels)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[N, C, H, W]`` to ``[N, F]``."""
        return torch.flatten(F.relu(self.stages(x)), 1)
