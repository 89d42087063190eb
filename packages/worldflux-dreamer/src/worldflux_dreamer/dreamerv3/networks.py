"""The layers DreamerV3 is built from, and the one place where they are initialised.

Weights keep the official layout (inputs first), because a layer's gradient is clipped per tensor: what is one tensor
there is one tensor here. Only convolutions are stored as torch wants them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux.blocks import KernelConv, KernelLinear

from ..recurrent import kernels

NORM_EPS = 1e-4


def init_kernels(parts: Iterable[Any], generator: torch.Generator) -> None:
    """Set every kernel in ``parts``; nothing else initialises anything.

    Kernels: a normal cut at two deviations with deviation ``outscale / sqrt(fan_in)``; biases 0, norm scales 1. The
    fan-in of a block layer is the full width of its input, as in the official code.
    """
    for layer, kernel in kernels(parts):
        fan_in = kernel[0].numel() if isinstance(layer, KernelConv) else kernel.numel() // kernel.shape[-1]
        with torch.no_grad():
            nn.init.trunc_normal_(kernel, 0.0, 1.0, -2.0, 2.0, generator=generator)
            kernel.mul_(1.1368 * getattr(layer, "outscale", 1.0) / math.sqrt(fan_in))


class _RmsSilu(torch.autograd.Function):
    """``silu(rms(u) * scale)`` with a hand-written gradient: half the passes over memory, one saved activation."""

    @staticmethod
    def forward(ctx, u: Tensor, scale: Tensor) -> Tensor:
        inverse = rms_inverse(u)
        ctx.save_for_backward(u, inverse, scale)
        return F.silu((u * inverse).mul_(scale), inplace=True)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        u, inverse, scale = ctx.saved_tensors
        grad_u, dscale = rms_silu_backward(grad, u, inverse, scale)
        return grad_u, dscale.reshape(-1, dscale.shape[-1]).sum(0)


def rms_inverse(u: Tensor) -> Tensor:
    """``1 / sqrt(mean(u^2) + eps)`` over the last axis, kept as an axis of one."""
    norm = torch.linalg.vector_norm(u, dim=-1, keepdim=True)
    return torch.addcmul(_eps(norm.dtype, norm.device), norm, norm, value=1 / u.shape[-1]).rsqrt_()


@lru_cache(maxsize=16)
def _eps(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(NORM_EPS, dtype=dtype, device=device)


def rms_silu_backward(grad: Tensor, u: Tensor, inverse: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of ``silu(rms(u, scale))`` with respect to ``u``, and to ``scale`` before the sum over rows."""
    unit = u * inverse
    grad = torch.ops.aten.silu_backward(grad, unit * scale)
    dscale = grad * unit
    along = (dscale @ scale).div_(-u.shape[-1]).unsqueeze(-1)
    return grad.mul_(scale).addcmul_(unit, along).mul_(inverse), dscale


def rms_silu(u: Tensor, scale: Tensor) -> Tensor:
    """``silu(rms(u, scale))``; computed in float32 whatever the input is."""
    u = u.float() if u.dtype in (torch.bfloat16, torch.float16) else u
    if not torch.is_grad_enabled():
        return F.silu((u * rms_inverse(u)).mul_(scale), inplace=True)
    return _RmsSilu.apply(u, scale)


class Linear(KernelLinear):
    """``x @ kernel + bias`` with ``kernel [in, out]``, which starts ``outscale`` times as large as others."""

    def __init__(self, inputs: int, outputs: int, *, outscale: float = 1.0) -> None:
        super().__init__(inputs, outputs)
        self.outscale = outscale


class NormedLinear(Linear):
    """``silu(rms(x @ kernel + bias))``: the layer every network here is made of."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.scale = nn.Parameter(torch.ones(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return rms_silu(super().forward(x), self.scale)


class BlockLinear(nn.Module):
    """A linear layer whose ``blocks`` groups of features see only their own group: ``kernel [g, in/g, out/g]``."""

    def __init__(self, inputs: int, outputs: int, blocks: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(blocks, inputs // blocks, outputs // blocks))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in]`` grouped contiguously to ``[..., out]``."""
        blocks, size, _ = self.kernel.shape
        grouped = x.reshape(-1, blocks, size).transpose(0, 1)  # (g, N, in/g)
        mixed = torch.bmm(grouped, self.kernel).transpose(0, 1)  # (N, g, out/g)
        return mixed.reshape(*x.shape[:-1], -1) + self.bias


class NormedBlockLinear(BlockLinear):
    """``silu(rms(block_linear(x)))``, the norm over all features together."""

    def __init__(self, inputs: int, outputs: int, blocks: int) -> None:
        super().__init__(inputs, outputs, blocks)
        self.scale = nn.Parameter(torch.ones(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return rms_silu(super().forward(x), self.scale)


class NormedConv(KernelConv):
    """Convolution, 2x2 max-pool if asked for, norm over channels, silu: images ``[N, C, H, W]``."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__(inputs, outputs, size)
        self.scale = nn.Parameter(torch.ones(outputs))

    def forward(self, x: Tensor, *, pool: bool = False) -> Tensor:
        x = super().forward(x)
        return channel_norm(F.max_pool2d(x, 2) if pool else x, self.scale)


def channel_norm(x: Tensor, scale: Tensor) -> Tensor:
    """``silu(rms(x))`` over the channels of ``[N, C, H, W]``."""
    return rms_silu(x.movedim(1, -1).contiguous(), scale).movedim(-1, 1)


class MLP(nn.Module):
    """``layers`` normed linear layers of ``units``."""

    def __init__(self, inputs: int, units: int, layers: int) -> None:
        super().__init__()
        sizes = [inputs] + [units] * layers
        self.layers = nn.ModuleList(NormedLinear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.outputs = sizes[-1]

    def __getitem__(self, index: int) -> NormedLinear:
        layer = self.layers[index]
        assert isinstance(layer, NormedLinear)
        return layer

    def __len__(self) -> int:
        return len(self.layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Head(nn.Module):
    """An MLP and one linear output: two-hot logits (reward, values) or a single logit (continue)."""

    def __init__(self, inputs: int, units: int, layers: int, outputs: int, *, outscale: float = 1.0) -> None:
        super().__init__()
        self.mlp = MLP(inputs, units, layers)
        self.out = Linear(self.mlp.outputs, outputs, outscale=outscale)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.mlp(x))
