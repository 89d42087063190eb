"""The layers PlaNet is built from, and the one place where they are initialised."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux.blocks import KernelLinear

from ..recurrent import kernels


def init_kernels(parts: Iterable[Any], generator: torch.Generator) -> None:
    """Set every kernel in ``parts``: uniform, by fan-in and fan-out. Biases keep what they were made with.

    Source: Glorot and Bengio 2010, the default of the framework PlaNet was written in.
    """
    for _, kernel in kernels(parts):
        bound = math.sqrt(6 / ((kernel.shape[0] + kernel.shape[1]) * math.prod(kernel.shape[2:])))
        with torch.no_grad():
            kernel.uniform_(-bound, bound, generator=generator)


class Dense(KernelLinear):
    """``relu(x @ kernel + bias)``."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


def dense_layers(inputs: int, units: int, layers: int) -> nn.Sequential:
    """``layers`` dense layers of ``units``."""
    return nn.Sequential(*(Dense(inputs if i == 0 else units, units) for i in range(layers)))


class GRU(nn.Module):
    """A gated recurrent cell that resets the state before the candidate reads it; gates begin open (bias 1).

    Source: Cho et al. 2014, eq. 5 to 8.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.gates = KernelLinear(inputs + units, 2 * units)
        self.candidate = KernelLinear(inputs + units, units)
        nn.init.ones_(self.gates.bias)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """The next state ``[..., D]`` from inputs ``[..., I]`` and the state ``[..., D]``."""
        reset, update = torch.sigmoid(self.gates(torch.cat([x, h], -1))).chunk(2, -1)
        candidate = torch.tanh(self.candidate(torch.cat([x, reset * h], -1)))
        return torch.lerp(candidate.to(h), h, update.to(h))  # autocast leaves the state as it is


class Gaussian(nn.Module):
    """A dense layer, then mean and deviation ``[..., S]`` of normals; the deviation is at least ``min_std``."""

    def __init__(self, inputs: int, hidden: int, outputs: int, *, min_std: float) -> None:
        super().__init__()
        self.min_std = min_std
        self.hidden = Dense(inputs, hidden)
        self.out = KernelLinear(hidden, 2 * outputs)  # means, then what becomes deviations

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self.out(self.hidden(x)).chunk(2, -1)
        return mean, F.softplus(raw) + self.min_std


def draw(mean: Tensor, std: Tensor, noise: Tensor | None) -> Tensor:
    """Reparameterised samples by standard normal noise; the mean where ``noise`` is None."""
    return mean if noise is None else mean + std * noise
