"""The layers PlaNet is built from, and the one place where they are initialised."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..networks import Linear


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Set every kernel under ``module``: uniform, by fan-in and fan-out. Biases keep what they were made with.

    Source: Glorot and Bengio 2010, the default of the framework PlaNet was written in. Meta tensors are left alone.
    """
    for part in module.modules():
        kernel = getattr(part, "kernel", None)
        if not isinstance(kernel, nn.Parameter) or kernel.is_meta:
            continue
        bound = math.sqrt(6 / ((kernel.shape[0] + kernel.shape[1]) * math.prod(kernel.shape[2:])))
        with torch.no_grad():
            kernel.uniform_(-bound, bound, generator=generator)


class Dense(Linear):
    """``relu(x @ kernel + bias)``."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


def dense_layers(inputs: int, units: int, layers: int) -> nn.Sequential:
    """``layers`` dense layers of ``units``."""
    return nn.Sequential(*(Dense(inputs if i == 0 else units, units) for i in range(layers)))


class Conv(nn.Module):
    """A convolution of stride 2 without padding: images ``[N, C, H, W]``, ``kernel [out, in, k, k]``."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, self.bias, stride=2)


class Deconv(nn.Module):
    """A transposed convolution of stride 2: images ``[N, C, H, W]``, ``kernel [in, out, k, k]``."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(inputs, outputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.kernel, self.bias, stride=2)


class GRU(nn.Module):
    """A gated recurrent cell that resets the state before the candidate reads it; gates begin open (bias 1).

    Source: Cho et al. 2014, eq. 5 to 8.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.gates = Linear(inputs + units, 2 * units)
        self.candidate = Linear(inputs + units, units)
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
        self.out = Linear(hidden, 2 * outputs)  # means, then what becomes deviations

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self.out(self.hidden(x)).chunk(2, -1)
        return mean, F.softplus(raw) + self.min_std


def draw(mean: Tensor, std: Tensor, noise: Tensor | None) -> Tensor:
    """Reparameterised samples by standard normal noise; the mean where ``noise`` is None."""
    return mean if noise is None else mean + std * noise
