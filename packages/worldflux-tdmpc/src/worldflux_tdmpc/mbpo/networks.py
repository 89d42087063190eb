"""The layers MBPO is built from, and the one place where they are initialised."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..networks import EnsembleLayer, Linear


class Stack(nn.ModuleList):
    """``heads`` MLPs in stacked tensors, with an activation between their layers. ``frozen`` ones are buffers."""

    def __init__(
        self, heads: int, sizes: Sequence[int], act: Callable[[Tensor], Tensor], *, frozen: bool = False
    ) -> None:
        super().__init__(EnsembleLayer(heads, a, b, normed=False, frozen=frozen) for a, b in zip(sizes, sizes[1:]))
        self.act = act

    def forward(self, x: Tensor, heads: Tensor | None = None, *, detach: bool = False) -> Tensor:
        """Outputs ``[K, N, out]`` of inputs ``[N, in]`` under the K ``heads`` (None: all, in order).

        ``detach`` cuts the weights from the graph.
        """
        hidden = x.unsqueeze(0)
        for i, layer in enumerate(self):
            assert isinstance(layer, EnsembleLayer)
            weight, bias = (_chosen(value, heads, detach) for value in (layer.weight, layer.bias))
            hidden = self.act(hidden) if i else hidden.expand(len(weight), -1, -1)
            hidden = torch.baddbmm(bias.unsqueeze(1), hidden, weight.transpose(1, 2))
        return hidden


def _chosen(value: Tensor, heads: Tensor | None, detach: bool) -> Tensor:
    value = value.detach() if detach else value
    return value if heads is None else value.index_select(0, heads)


def mlp(sizes: Sequence[int], act: type[nn.Module]) -> nn.Sequential:
    """Linear layers with an activation between them."""
    layers: list[nn.Module] = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [Linear(a, b), act()]
    return nn.Sequential(*layers[:-1])


class Standardiser(nn.Module):
    """Takes the mean off and divides by the deviation of what it has been shown.

    Each batch weighs as much as each before it, until ``MEMORY`` of them were seen; then the oldest are forgotten.
    """

    MEMORY = 100
    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def observe(self, x: Tensor, weight: Tensor) -> None:
        """Take note of rows ``[N, D]``, each by its weight ``[N]``; where all weigh nothing, of nothing."""
        total = weight.sum()
        share = (weight / total.clamp(min=1e-6)).unsqueeze(-1)
        mean = (x * share).sum(0)
        variance = ((x - mean).square() * share).sum(0)
        self.batches += (total > 0).long()
        rate = torch.where(total > 0, 1 / self.batches.clamp(1, self.MEMORY), 0.0)
        apart = mean - self.mean
        self.variance.lerp_(variance, rate).add_(rate * (1 - rate) * apart.square())  # that of both together
        self.mean.add_(rate * apart)

    def forward(self, x: Tensor) -> Tensor:
        """Rows ``[N, D]`` standardised; what never varied is only shifted."""
        deviation = self.variance.sqrt()
        return (x - self.mean) / torch.where(deviation < 1e-6, 1.0, deviation)


@torch.no_grad()
def initialise_ensemble(stack: Stack, generator: torch.Generator) -> None:
    """Normal weights of deviation ``1 / (2 sqrt(in))`` cut at two deviations, biases 0; meta tensors are left alone."""
    for layer in stack:
        assert isinstance(layer, EnsembleLayer)
        if not layer.weight.is_meta:
            std = 0.5 / math.sqrt(layer.weight.shape[-1])
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std, generator=generator)
            layer.bias.zero_()


@torch.no_grad()
def initialise_dense(module: nn.Module, generator: torch.Generator) -> None:
    """Uniform weights by fan-in and fan-out, biases 0. Source: Glorot and Bengio 2010, as in the official program."""
    for part in module.modules():
        if isinstance(part, (Linear, EnsembleLayer)) and not part.weight.is_meta:
            bound = math.sqrt(6 / (part.weight.shape[-1] + part.weight.shape[-2]))
            part.weight.uniform_(-bound, bound, generator=generator)
            part.bias.zero_()


relu, swish = F.relu, F.silu
