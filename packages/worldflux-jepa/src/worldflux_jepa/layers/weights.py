"""How the weights of V-JEPA 2 and of what is built on it are initialised."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from worldflux.blocks import Linear

from .attention import Block
from .patches import Kernel

STD = 0.02


@torch.no_grad()
def initialise(part: Any, *, generator: torch.Generator) -> None:
    """Set the weights of a part: a normal of deviation 0.02 (cut at 2), biases and mask tokens 0, norms 1 and 0.

    What leads out of the attention and the MLP of block n (from 1) is divided by ``sqrt(2 n)``. Meta tensors are left
    alone, as is a part that is no module.
    """
    if not isinstance(part, nn.Module):
        return
    for layer in part.modules():
        if isinstance(layer, nn.ParameterList):  # of mask tokens
            for token in layer:
                token.zero_()
        if not isinstance(layer, (Linear, Kernel)) or layer.weight.is_meta:
            continue
        nn.init.trunc_normal_(layer.weight, std=STD, generator=generator)
        if layer.bias is not None:
            layer.bias.zero_()
    for stack in (layer for layer in part.modules() if isinstance(layer, nn.ModuleList)):
        for number, block in enumerate((layer for layer in stack if isinstance(layer, Block)), 1):
            for last in (block.attn.proj, block.mlp.fc2):
                last.weight.div_(math.sqrt(2 * number))
