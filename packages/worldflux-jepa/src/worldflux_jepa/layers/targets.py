"""Networks that follow others slowly: no optimizer sees their weights, saved models hold them."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from worldflux.blocks import ema_

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def target_of(network: ModuleT) -> ModuleT:
    """A copy of a network in which every parameter is a buffer."""
    target = copy.deepcopy(network)
    for module in target.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach())
    return target.requires_grad_(False)


@torch.no_grad()
def follow(target: nn.Module, network: nn.Module, rate: float) -> None:
    """Move what ``target_of`` made by ``rate`` of the way to the network's weights; its buffers are copied."""
    held = dict(target.named_buffers())
    weights = dict(network.named_parameters())
    ema_([held[name] for name in weights], weights.values(), rate)
    for name, buffer in network.named_buffers():
        held[name].copy_(buffer)
