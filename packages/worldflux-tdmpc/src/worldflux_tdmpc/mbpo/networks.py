"""The layers MBPO is built from, and the one place where they are initialised."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux.blocks import Ensemble, EnsembleLayer, Linear, SquashedNormal, dense

from .config import MBPOConfig


@torch.no_grad()
def initialise(part: object, generator: torch.Generator, *, dynamics: bool = False) -> None:
    """Set the weights of every layer of ours in ``part``, biases 0; meta tensors are left alone.

    Uniform by fan-in and fan-out; of the ``dynamics`` a normal of deviation ``1 / (2 sqrt(in))``, cut at two of them.
    Sources: Glorot and Bengio 2010; Chua et al. 2018; both as in the official program.
    """
    for layer in part.modules() if isinstance(part, nn.Module) else ():
        if not isinstance(layer, (Linear, EnsembleLayer)) or layer.weight.is_meta:
            continue
        outputs, inputs = layer.weight.shape[-2:]
        if dynamics:
            std = 0.5 / math.sqrt(inputs)
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std, generator=generator)
        else:
            bound = math.sqrt(6 / (inputs + outputs))
            layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.zero_()


def make_actor(config: MBPOConfig) -> SquashedNormal:
    """The policy. Source: Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications"."""
    size, units = config.actions.dim, config.hidden_dim
    return SquashedNormal(dense([config.obs_size, units, units, 2 * size], nn.ReLU), size, low=-20.0, high=2.0)


class Critics(Ensemble):
    """Two estimates of the return of doing an action and following the policy from there on."""

    def __init__(self, config: MBPOConfig, *, frozen: bool = False) -> None:
        sizes = [config.obs_size + config.actions.dim, config.hidden_dim, config.hidden_dim, 1]
        super().__init__(2, sizes, F.relu, frozen=frozen)

    def values(self, obs: Tensor, action: Tensor, *, detach: bool = False) -> Tensor:
        """Values ``[2, N]`` of observations ``[N, O]`` and actions ``[N, A]``; ``detach`` cuts the weights off."""
        return self(torch.cat([obs, action], -1), detach=detach).squeeze(-1).float()
