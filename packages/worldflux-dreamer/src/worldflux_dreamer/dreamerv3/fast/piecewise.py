"""Losses over more rows than are worth keeping in memory at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..networks import MLP, rms_silu


class _Piecewise(torch.autograd.Function):
    """A sum whose gradient was taken along with it."""

    @staticmethod
    def forward(ctx, total: Tensor, *grads_and_params: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        half = len(grads_and_params) // 2
        ctx.save_for_backward(*grads_and_params[:half])
        return total.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        grads = ctx.saved_tensors
        return (None, *[None] * len(grads), *[own * grad for own in grads])


def piecewise(loss: Callable[..., Tensor], pieces: Sequence[tuple[Any, ...]], params: Iterable[nn.Parameter]) -> Tensor:
    """Sum ``loss(*piece)`` over pieces; the sum depends on ``params`` alone, and its gradient reaches them."""
    wanted = [p for p in params if p.requires_grad]
    if not torch.is_grad_enabled():
        return torch.stack([loss(*piece) for piece in pieces]).sum()
    total, grads = torch.zeros(()), [torch.zeros_like(p) for p in wanted]
    for piece in pieces:
        value = loss(*piece)
        torch._foreach_add_(grads, torch.autograd.grad(value, wanted))
        total = total.to(value.device) + value.detach()
    return _Piecewise.apply(total, *grads, *wanted)


class _Known(torch.autograd.Function):
    """``x @ kernel + bias`` whose value is already known; ``x`` gets no gradient."""

    @staticmethod
    def forward(ctx, known: Tensor, x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        return known.view_as(known)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        return None, None, x.t() @ grad, grad.sum(0)


def known_first_layer(mlp: MLP, x: Tensor, known: Tensor | None) -> Tensor:
    """``mlp(x)``, where ``known [rows, U]`` is what the first layer makes of ``x`` before its norm."""
    if known is None:
        return mlp(x)
    first = mlp[0]
    hidden = rms_silu(_Known.apply(known, x, first.kernel, first.bias), first.scale)
    for layer in mlp.layers[1:]:
        hidden = layer(hidden)
    return hidden
