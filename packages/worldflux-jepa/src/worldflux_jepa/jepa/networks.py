"""The one place where weights of a JEPA are initialised, and what its batch norms take."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from worldflux.blocks import Conv, Linear

from ..layers.transformer import Modulation
from ..layers.vit import VisionTransformer
from .predictors import GRU
from .transformers import Transformer

STD = 0.02  # of a vision transformer's weights


@torch.no_grad()
def initialise(part: object, generator: torch.Generator) -> None:
    """Set the weights of all layers in ``part``; norms stay 1 and 0, meta tensors are left alone.

    Uniform within ``1 / sqrt(fan_in)``, biases too; a vision transformer's normal of deviation 0.02, biases 0; what
    modulates 0; a predictor's positions standard normal. As in the official programs.
    """
    small = set[nn.Module]()
    for layer in part.modules() if isinstance(part, nn.Module) else ():
        if any(value.is_meta for value in layer.parameters(recurse=False)):
            continue
        if isinstance(layer, VisionTransformer):
            small |= set(layer.modules())
            for value in (layer.first, layer.positions):
                nn.init.trunc_normal_(value, std=STD, generator=generator)
        elif isinstance(layer, Transformer):
            layer.positions.normal_(generator=generator)
        elif isinstance(layer, Modulation):
            layer.weight.zero_()
            layer.bias.zero_()
        elif layer in small and isinstance(layer, (Linear, Conv)):
            nn.init.trunc_normal_(layer.weight, std=STD, generator=generator)
            layer.bias.zero_()
        elif isinstance(layer, (Linear, Conv, GRU)):
            fan_in = layer.hidden_size if isinstance(layer, GRU) else layer.weight[0].numel()
            for value in layer.parameters(recurse=False):
                value.uniform_(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), generator=generator)


def settled(model: nn.Module) -> AbstractContextManager[None]:
    """Inside, batch norms take the running statistics, in training too: rows know each other only in a loss."""
    return _settled(model) if model.training else nullcontext()


@contextmanager
def _settled(model: nn.Module) -> Iterator[None]:
    norms = [part for part in model.modules() if isinstance(part, _BatchNorm) and part.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()
