"""Several networks of one shape in stacked tensors, so that all of them cost one call. Letters: Q heads, K of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EnsembleNorm(nn.Module):
    """The affine part of a layer norm for each head: ``weight``, ``bias [Q, out]``; ones and zeros at first."""

    weight: Tensor
    bias: Tensor

    def __init__(self, heads: int, size: int, *, frozen: bool = False) -> None:
        super().__init__()
        _hold(self, "weight", torch.ones(heads, size), frozen)
        _hold(self, "bias", torch.zeros(heads, size), frozen)


class EnsembleLayer(nn.Module):
    """One linear layer of all heads: ``weight [Q, out, in]``, which waits to be initialised, ``bias [Q, out]``; and
    ``ln``, the affine part of a layer norm behind it, or None."""

    weight: Tensor
    bias: Tensor
    ln: EnsembleNorm | None

    def __init__(self, heads: int, inputs: int, outputs: int, *, normed: bool = False, frozen: bool = False) -> None:
        super().__init__()
        self.ln = EnsembleNorm(heads, outputs, frozen=frozen) if normed else None
        _hold(self, "weight", torch.empty(heads, outputs, inputs), frozen)
        _hold(self, "bias", torch.zeros(heads, outputs), frozen)


class Ensemble(nn.ModuleList):
    """``heads`` MLPs ``sizes[0] -> ... -> sizes[-1]`` in stacked tensors, with ``act`` behind every layer but the last.

    ``normed`` puts a layer norm before each activation. ``frozen`` ones are buffers, not parameters: what follows
    other networks by averages is not learnt, and not counted.
    """

    def __init__(
        self,
        heads: int,
        sizes: Sequence[int],
        act: Callable[[Tensor], Tensor],
        *,
        normed: bool = False,
        frozen: bool = False,
    ) -> None:
        last = len(sizes) - 2
        super().__init__(
            EnsembleLayer(heads, inputs, outputs, normed=normed and i < last, frozen=frozen)
            for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:]))
        )
        self.heads, self.sizes, self.act = heads, tuple(sizes), act

    def forward(
        self, x: Tensor, heads: Tensor | None = None, *, detach: bool = False, keep: Tensor | None = None
    ) -> Tensor:
        """Outputs ``[K, ..., out]`` of inputs ``[..., in]`` under the K ``heads`` (indices; None: all, in order).

        ``detach`` cuts the weights from the graph. ``keep [K, ..., sizes[1]]`` multiplies what the first linear layer
        makes: dropout.
        """
        hidden, last = x.reshape(1, -1, x.shape[-1]), len(self) - 1
        for i, layer in enumerate(self):
            assert isinstance(layer, EnsembleLayer)
            weight, bias = _chosen(layer, heads, detach)
            hidden = hidden if i else hidden.expand(len(weight), -1, -1)
            hidden = torch.baddbmm(bias.unsqueeze(1), hidden, weight.transpose(1, 2))
            if keep is not None and i == 0:
                hidden = hidden * keep.flatten(1, -2)
            if layer.ln is not None:
                scale, shift = _chosen(layer.ln, heads, detach)
                normed = F.layer_norm(hidden, hidden.shape[-1:])
                hidden = torch.addcmul(shift.unsqueeze(1), normed, scale.unsqueeze(1))
            if i < last:
                hidden = self.act(hidden)
        return hidden.reshape(hidden.shape[0], *x.shape[:-1], hidden.shape[-1])


def _hold(module: nn.Module, name: str, value: Tensor, frozen: bool) -> None:
    if frozen:
        module.register_buffer(name, value)
    else:
        module.register_parameter(name, nn.Parameter(value))


def _chosen(part: EnsembleLayer | EnsembleNorm, heads: Tensor | None, detach: bool) -> list[Tensor]:
    values = [value.detach() if detach else value for value in (part.weight, part.bias)]
    return values if heads is None else [value.index_select(0, heads) for value in values]
