"""Layers whose weights wait for the family that uses them: making one draws nothing from anybody's generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """torch's linear layer, ``weight [out, in]``, without its initialisation."""

    def reset_parameters(self) -> None:
        """Leave the weights as they were allocated."""


class Conv(nn.Conv2d):
    """torch's convolution, ``weight [out, in, k, k]``, without its initialisation; it always has a bias."""

    bias: nn.Parameter

    def reset_parameters(self) -> None:
        """Leave the weights as they were allocated."""


def dense(sizes: Sequence[int], act: Callable[[], nn.Module]) -> nn.Sequential:
    """Linear layers ``sizes[0] -> ... -> sizes[-1]`` with an activation (such as ``nn.ReLU``) between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        layers += [Linear(inputs, outputs), act()]
    return nn.Sequential(*layers[:-1])


class KernelLinear(nn.Module):
    """``x @ kernel + bias`` with ``kernel [in, out]``: the layout of JAX and TensorFlow. Biases start at 0."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in]`` to ``[..., out]``."""
        return F.linear(x, self.kernel.t(), self.bias)


class KernelConv(nn.Module):
    """A convolution of images ``[N, C, H, W]`` with ``kernel [out, in, k, k]``. Biases start at 0.

    ``padding`` is a number of pixels, or ``"same"`` to keep the size (of stride 1).
    """

    def __init__(self, inputs: int, outputs: int, size: int, *, stride: int = 1, padding: int | str = "same") -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.kernel = nn.Parameter(torch.empty(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, in, H, W]`` to ``[N, out, H', W']``."""
        return F.conv2d(x, self.kernel, self.bias, stride=self.stride, padding=self.padding)


class KernelDeconv(nn.Module):
    """A transposed convolution of images ``[N, C, H, W]`` with ``kernel [in, out, k, k]``. Biases start at 0."""

    def __init__(self, inputs: int, outputs: int, size: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.kernel = nn.Parameter(torch.empty(inputs, outputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, in, H, W]`` to ``[N, out, H', W']``, ``H' = (H - 1) stride + k``."""
        return F.conv_transpose2d(x, self.kernel, self.bias, stride=self.stride)
