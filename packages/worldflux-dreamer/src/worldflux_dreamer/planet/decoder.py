"""From latents to what they show and pay."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux.core.payloads import ConditionPayload
from worldflux.core.state import State

from ..distributions import symexp
from ..networks import Linear
from .config import PlaNetConfig
from .networks import Deconv, dense_layers


def features(deter: Tensor, stoch: Tensor) -> Tensor:
    """What every head reads ``[..., S + D]``."""
    return torch.cat([stoch, deter], -1)


class ImageDecoder(nn.Module):
    """Pixels ``[..., C, 64, 64]``, centred at 0, from features: a linear layer and four transposed convolutions."""

    def __init__(self, inputs: int, depth: int, channels: int) -> None:
        super().__init__()
        self.first = Linear(inputs, 32 * depth)
        sizes = [32 * depth, 4 * depth, 2 * depth, depth, channels]
        self.layers = nn.ModuleList(Deconv(a, b, k) for a, b, k in zip(sizes, sizes[1:], (5, 5, 6, 6)))

    def forward(self, feat: Tensor) -> Tensor:
        lead = feat.shape[:-1]
        x = self.first(feat).reshape(-1, self.first.kernel.shape[1], 1, 1)
        for i, layer in enumerate(self.layers):
            x = layer(x if i == 0 else F.relu(x))
        return x.reshape(*lead, *x.shape[1:])


class Decoder(nn.Module):
    """Means of unit normals: observations and reward, from ``deter [..., D]`` and ``stoch [..., S]``.

    Source: Hafner et al. 2019 (PlaNet) appendix A.
    """

    def __init__(self, config: PlaNetConfig) -> None:
        super().__init__()
        self.images, self.vectors = config.image_names, config.vector_names
        self.shapes = {name: spec.shape for name, spec in config.modalities.items()}
        latent = config.deter_dim + config.stoch_dim
        if self.vectors:
            self.mlp = dense_layers(latent, config.hidden_dim, config.decoder_layers)
            self.vec = nn.ModuleDict({n: Linear(config.hidden_dim, math.prod(self.shapes[n])) for n in self.vectors})
        if self.images:
            self.image = ImageDecoder(latent, config.depth, sum(self.shapes[name][0] for name in self.images))
        self.reward_mlp = dense_layers(latent, config.reward_units, config.reward_layers)
        self.reward_out = Linear(config.reward_units, 1)

    def decode(self, state: State, conditions: ConditionPayload | None = None) -> dict[str, Tensor]:
        """Predictions ``[B, ...]`` in the data's units: vectors as observed, images cut to [0, 1], reward."""
        preds = self.means(state)
        preds |= {name: symexp(preds[name]) for name in self.vectors}
        return preds | {name: preds[name].clamp(0.0, 1.0) for name in self.images}

    def reward(self, state: State) -> Tensor:
        """The reward ``[...]`` of arriving in a state."""
        return self.reward_out(self.reward_mlp(features(state["deter"], state["stoch"])))[..., 0]

    def means(self, state: State) -> dict[str, Tensor]:
        """What the losses compare: vectors ``[..., *shape]`` as symlog, images not cut to [0, 1], ``reward [...]``."""
        feat = features(state["deter"], state["stoch"])
        found: dict[str, Tensor] = {}
        if self.vectors:
            x = self.mlp(feat)
            found |= {n: self.vec[n](x).reshape(*feat.shape[:-1], *self.shapes[n]) for n in self.vectors}
        if self.images:
            pixels = self.image(feat) + 0.5
            found |= dict(zip(self.images, pixels.split([self.shapes[n][0] for n in self.images], -3)))
        return {**found, "reward": self.reward(state)}
