"""The layers TD-MPC2 is built from, and the one place where they are initialised.

Parameter names follow the official ones below the name of each network: ``0.weight``, ``0.ln.weight``, ``2.bias``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STD = 0.02  # of every linear layer's weights; the embedding of tasks is uniform within it
LN_EPS = 1e-5


def initialise(module: nn.Module, *, zeros: Sequence[nn.Module], generator: torch.Generator) -> None:
    """Set every weight under ``module``; nothing else initialises anything.

    Linear layers: a normal of deviation 0.02 (cut at 2, a hundred deviations off), biases 0; convolutions: uniform
    within ``1 / sqrt(fan_in)``; embeddings: uniform within 0.02; normalisations 1 and 0. The layers in ``zeros`` start
    at 0, so that every reward and value is 0 at first. Meta tensors are left alone.
    """
    for part in module.modules():
        if not isinstance(part, (Conv, TaskEmbedding, Linear, EnsembleLayer)) or part.weight.is_meta:
            continue
        with torch.no_grad():
            if isinstance(part, TaskEmbedding):
                part.weight.uniform_(-STD, STD, generator=generator)
                continue
            if isinstance(part, Conv):
                bound = 1 / math.sqrt(part.weight[0].numel())
                part.weight.uniform_(-bound, bound, generator=generator)
                part.bias.uniform_(-bound, bound, generator=generator)
                continue
            if part in zeros:
                part.weight.zero_()
            else:
                nn.init.trunc_normal_(part.weight, std=STD, generator=generator)
            part.bias.zero_()


def mish(x: Tensor) -> Tensor:
    """``x * tanh(softplus(x))``."""
    if not torch.compiler.is_compiling():
        return F.mish(x)
    power = x.clamp(max=20.0).exp()  # one exponential, which a compiler fuses with the layer around it
    ratio = power * (power + 2)
    return x * (ratio / (ratio + 2))


def simnorm(x: Tensor, group: int) -> Tensor:
    """Softmax within groups of ``group`` entries of the last axis, in float32."""
    return x.float().unflatten(-1, (-1, group)).softmax(-1).flatten(-2)


class Linear(nn.Linear):
    """A linear layer whose weights wait for ``initialise``."""

    def reset_parameters(self) -> None:
        """Draw nothing from the process's generator."""


class Conv(nn.Conv2d):
    """A convolution whose weights wait for ``initialise``."""

    bias: nn.Parameter  # always there

    def reset_parameters(self) -> None:
        """Draw nothing from the process's generator."""


class NormedLinear(Linear):
    """``act(layer_norm(x @ weight.T + bias))``."""

    def __init__(self, inputs: int, outputs: int, act: Callable[[Tensor], Tensor] | None = mish) -> None:
        super().__init__(inputs, outputs)
        self.ln = nn.LayerNorm(outputs, eps=LN_EPS)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        normed = self.ln(super().forward(x))
        return normed if self.act is None else self.act(normed)


def mlp(inputs: int, units: Sequence[int], outputs: int, *, normed: bool = False) -> nn.Sequential:
    """Normed layers of ``units``, and an output layer: linear, or ``normed`` without an activation of its own."""
    sizes = [inputs, *units]
    layers: list[nn.Module] = [NormedLinear(a, b) for a, b in zip(sizes, sizes[1:])]
    last = NormedLinear(sizes[-1], outputs, act=None) if normed else Linear(sizes[-1], outputs)
    return nn.Sequential(*layers, last)


class TaskEmbedding(nn.Module):
    """A vector of norm at most 1 for each task."""

    def __init__(self, tasks: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(tasks, size))

    def forward(self, task: Tensor) -> Tensor:
        """Tasks ``[...]`` to embeddings ``[..., T]``; rows that have grown beyond norm 1 count as shrunk."""
        rows = F.embedding(task, self.weight)
        return rows * _shrinkage(rows.detach())

    @torch.no_grad()
    def renormalise(self, task: Tensor) -> None:
        """Shrink the rows of these tasks in place, as training does before it uses them."""
        rows = task.unique()
        self.weight[rows] *= _shrinkage(self.weight[rows])


def _shrinkage(rows: Tensor) -> Tensor:
    norm = rows.norm(dim=-1, keepdim=True)
    return torch.where(norm > 1, 1 / (norm + 1e-7), 1.0)


class EnsembleLayer(nn.Module):
    """One layer of all heads: ``weight [Q, out, in]``, ``bias [Q, out]``, and the affine part of a layer norm."""

    weight: Tensor
    bias: Tensor
    ln: EnsembleNorm | None

    def __init__(self, heads: int, inputs: int, outputs: int, *, normed: bool, frozen: bool) -> None:
        super().__init__()
        self.ln = EnsembleNorm(heads, outputs, frozen=frozen) if normed else None
        _hold(self, "weight", torch.empty(heads, outputs, inputs), frozen)
        _hold(self, "bias", torch.zeros(heads, outputs), frozen)


class EnsembleNorm(nn.Module):
    """The affine part of a layer norm for each head, ``[Q, out]``."""

    weight: Tensor
    bias: Tensor

    def __init__(self, heads: int, size: int, *, frozen: bool) -> None:
        super().__init__()
        _hold(self, "weight", torch.ones(heads, size), frozen)
        _hold(self, "bias", torch.zeros(heads, size), frozen)


def _hold(module: nn.Module, name: str, value: Tensor, frozen: bool) -> None:
    """A parameter, or (frozen) a buffer: what follows by averages is no parameter, and is not counted as one."""
    if frozen:
        module.register_buffer(name, value)
    else:
        module.register_parameter(name, nn.Parameter(value))


class Ensemble(nn.ModuleList):
    """``heads`` MLPs in stacked tensors: two normed layers, one linear."""

    def __init__(self, heads: int, inputs: int, units: int, outputs: int, *, frozen: bool = False) -> None:
        sizes = (inputs, units, units, outputs)
        super().__init__(
            EnsembleLayer(heads, a, b, normed=i < 2, frozen=frozen) for i, (a, b) in enumerate(zip(sizes, sizes[1:]))
        )
        self.heads, self.units = heads, units

    def forward(
        self, x: Tensor, heads: Tensor | None = None, *, detach: bool = False, keep: Tensor | None = None
    ) -> Tensor:
        """Logits ``[K, ..., out]`` of inputs ``[..., in]`` under the K ``heads`` (None: all, in order).

        ``detach`` cuts the weights from the graph. ``keep [K, ..., units]`` multiplies the first layer: dropout.
        """
        lead, hidden = x.shape[:-1], x.reshape(1, -1, x.shape[-1])
        for i, layer in enumerate(self):
            assert isinstance(layer, EnsembleLayer)
            weight, bias = (_chosen(value, heads, detach) for value in (layer.weight, layer.bias))
            hidden = torch.baddbmm(bias.unsqueeze(1), hidden.expand(len(weight), -1, -1), weight.transpose(1, 2))
            if i == 0 and keep is not None:
                hidden = hidden * keep.flatten(1, -2)
            if layer.ln is not None:
                scale, shift = (_chosen(value, heads, detach) for value in (layer.ln.weight, layer.ln.bias))
                normed = F.layer_norm(hidden, hidden.shape[-1:], eps=LN_EPS)
                hidden = mish(torch.addcmul(shift.unsqueeze(1), normed, scale.unsqueeze(1)))
        return hidden.unflatten(1, lead)


def _chosen(value: Tensor, heads: Tensor | None, detach: bool) -> Tensor:
    value = value.detach() if detach else value
    return value if heads is None else value.index_select(0, heads)
