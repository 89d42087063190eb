"""The layers TD-MPC2 is built from, and the one place where they are initialised.

Parameter names follow the official ones below the name of each network: ``0.weight``, ``0.ln.weight``, ``2.bias``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux.blocks import Conv, EnsembleLayer, Linear, percentiles

STD = 0.02  # of every linear layer's weights; the embedding of tasks is uniform within it


@torch.no_grad()
def initialise(layers: Iterable[nn.Module], *, zeros: Sequence[nn.Module], generator: torch.Generator) -> None:
    """Set the weights of all ``layers`` in order; nothing else initialises anything.

    Linear layers: a normal of deviation 0.02 (cut at 2, a hundred deviations off), biases 0; convolutions: uniform
    within ``1 / sqrt(fan_in)``; embeddings: uniform within 0.02; normalisations are 1 and 0 as they are. The layers in
    ``zeros`` start at 0, so that every reward and value is 0 at first. Meta tensors are left alone.
    """
    for layer in layers:
        if not isinstance(layer, (Conv, TaskEmbedding, Linear, EnsembleLayer)) or layer.weight.is_meta:
            continue
        if isinstance(layer, TaskEmbedding):
            layer.weight.uniform_(-STD, STD, generator=generator)
            continue
        if isinstance(layer, Conv):
            bound = 1 / math.sqrt(layer.weight[0].numel())
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)
            continue
        if layer in zeros:
            layer.weight.zero_()
        else:
            nn.init.trunc_normal_(layer.weight, std=STD, generator=generator)
        layer.bias.zero_()


def mish(x: Tensor) -> Tensor:
    """``x * tanh(softplus(x))``."""
    if not torch.compiler.is_compiling():
        return F.mish(x)
    power = x.clamp(max=20.0).exp()  # one exponential, which a compiler fuses with the layer around it
    ratio = power * (power + 2)
    return x * (ratio / (ratio + 2))


class NormedLinear(Linear):
    """``act(layer_norm(x @ weight.T + bias))``."""

    def __init__(self, inputs: int, outputs: int, act: Callable[[Tensor], Tensor] | None = mish) -> None:
        super().__init__(inputs, outputs)
        self.ln = nn.LayerNorm(outputs)
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


def joined(latent: Tensor, embedding: Tensor | None, *more: Tensor) -> Tensor:
    """Latents ``[..., B, D]``, their tasks' embeddings ``[B, E]`` and what else there is, along the last axis."""
    if embedding is None:
        return torch.cat([latent, *more], -1) if more else latent
    return torch.cat([latent, embedding.expand(*latent.shape[:-1], -1), *more], -1)


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


class RunningScale(nn.Module):
    """What the policy's loss divides values by: a moving average of the distance between two percentiles, at least 1.

    It is saved with the model.
    """

    value: Tensor

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("value", torch.ones(()))

    @torch.no_grad()
    def update(self, values: Tensor) -> None:
        """Move the average towards what these values, of any shape, show."""
        low, high = percentiles(values, 5.0, 95.0)
        self.value.lerp_((high - low).clamp(min=1.0).to(self.value), self.rate)
