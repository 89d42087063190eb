"""From observations to tokens, how pixels are read, and from latents to what they show and pay."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux import ConditionPayload, State
from worldflux.blocks import (
    KernelConv,
    KernelDeconv,
    KernelLinear,
    folded,
    joined_vectors,
    split_modalities,
    symexp,
    symlog,
)

from .config import PlaNetConfig
from .losses import half_squared_error
from .networks import dense_layers

LEFT = 2 * 2  # pixels of a 64 × 64 image after four convolutions


class Encoder(nn.Module):
    """Images through four convolutions, vectors through dense layers of their symlog; both joined to ``tokens``.

    Modalities of a kind are joined in sorted order. Source: Hafner et al. 2019 (PlaNet) appendix A; Ha and Schmidhuber
    2018 (the convolutions).
    """

    def __init__(self, config: PlaNetConfig) -> None:
        super().__init__()
        shapes = {name: spec.shape for name, spec in config.modalities.items()}
        self.images, self.vectors = split_modalities(config.modalities)
        self.ranks = {name: len(shapes[name]) for name in self.vectors}
        self.token_dim = 0
        if self.vectors:
            width = sum(math.prod(shapes[name]) for name in self.vectors)
            self.mlp = dense_layers(width, config.hidden_dim, config.encoder_layers)
            self.token_dim += config.hidden_dim
        if self.images:
            sizes = [sum(shapes[name][0] for name in self.images), *(config.depth * 2**i for i in range(4))]
            self.cnn = nn.ModuleList(KernelConv(a, b, 4, stride=2, padding=0) for a, b in zip(sizes, sizes[1:]))
            self.token_dim += sizes[-1] * LEFT

    def encode(self, observations: dict[str, Tensor]) -> State:
        """Modalities ``[..., *shape]``, images in [0, 1], to ``State({"tokens": [..., E]})``."""
        parts = []
        if self.vectors:
            parts.append(self.mlp(joined_vectors(observations, self.ranks, symlog)))
        if self.images:
            parts.append(folded(self._convolve, torch.cat([observations[n] for n in self.images], -3) - 0.5, rank=3))
        return State({"tokens": torch.cat(parts, -1) if len(parts) > 1 else parts[0]})

    def _convolve(self, x: Tensor) -> Tensor:
        for layer in self.cnn:
            x = F.relu(layer(x))
        return x.flatten(1)


def read_pixels(image: Tensor, bits: int, noise: Tensor | None) -> Tensor:
    """Bytes as numbers in [0, 1]: the first ``bits`` bits, and ``noise`` in [0, 1) for what was cut off (None: 1/2).

    Images that are floats already stay as they are. Source: Kingma and Dhariwal 2018 (Glow), as PlaNet uses it.
    """
    if image.is_floating_point():
        return image.float()
    level = torch.div(image, 2 ** (8 - bits), rounding_mode="floor").float()
    return (level + (0.5 if noise is None else noise)) / 2**bits


class ImageDecoder(nn.Module):
    """Pixels ``[N, C, 64, 64]``, centred at 0, from features: a linear layer and four transposed convolutions."""

    def __init__(self, inputs: int, depth: int, channels: int) -> None:
        super().__init__()
        self.first = KernelLinear(inputs, 32 * depth)
        sizes = [32 * depth, 4 * depth, 2 * depth, depth, channels]
        self.layers = nn.ModuleList(KernelDeconv(a, b, k, stride=2) for a, b, k in zip(sizes, sizes[1:], (5, 5, 6, 6)))

    def forward(self, feat: Tensor) -> Tensor:
        x = self.first(feat)[..., None, None]
        for i, layer in enumerate(self.layers):
            x = layer(x if i == 0 else F.relu(x))
        return x


class Decoder(nn.Module):
    """Means of unit normals: observations and reward, from ``deter [..., D]`` and ``stoch [..., S]``.

    The reward only where the config has a head for it.

    Source: Hafner et al. 2019 (PlaNet) appendix A.
    """

    def __init__(self, config: PlaNetConfig) -> None:
        super().__init__()
        latent = config.deter_dim + config.stoch_dim
        self.images, self.vectors = split_modalities(config.modalities)
        self.shapes = {name: spec.shape for name, spec in config.modalities.items()}
        if self.vectors:
            self.mlp = dense_layers(latent, config.hidden_dim, config.decoder_layers)
            self.vec = nn.ModuleDict(
                {n: KernelLinear(config.hidden_dim, math.prod(self.shapes[n])) for n in self.vectors}
            )
        if self.images:
            self.image = ImageDecoder(latent, config.depth, sum(self.shapes[name][0] for name in self.images))
        self.pays = config.reward_head
        if self.pays:
            self.reward_mlp = dense_layers(latent, config.reward_units, config.reward_layers)
            self.reward_out = KernelLinear(config.reward_units, 1)

    def decode(self, state: State, conditions: ConditionPayload | None = None) -> dict[str, Tensor]:
        """Predictions ``[B, ...]`` in the data's units: vectors as observed, images cut to [0, 1], reward."""
        means = self.observations(state)
        vectors = {name: symexp(means[name]) for name in self.vectors}
        return {**vectors, **{name: means[name].clamp(0.0, 1.0) for name in self.images}, **self.arrival(state)}

    def arrival(self, state: State) -> dict[str, Tensor]:
        """The ``reward [...]`` of arriving in a state, where there is a head for it."""
        return {"reward": self.reward_out(self.reward_mlp(_features(state)))[..., 0]} if self.pays else {}

    def observations(self, state: State) -> dict[str, Tensor]:
        """What the losses compare: vectors ``[..., *shape]`` as symlog, images not cut to [0, 1]."""
        feat, means = _features(state), dict[str, Tensor]()
        if self.vectors:
            x = self.mlp(feat)
            means |= {n: self.vec[n](x).reshape(*feat.shape[:-1], *self.shapes[n]) for n in self.vectors}
        if self.images:
            pixels = folded(self.image, feat, rank=1) + 0.5
            means |= dict(zip(self.images, pixels.split([self.shapes[n][0] for n in self.images], -3)))
        return means

    def losses(self, state: State, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses ``[...]`` by name; ``targets``: vectors as stored, images in [0, 1], and ``reward``."""
        means, found = self.observations(state), {}
        for name, shape in self.shapes.items():
            target = targets[name] if name in self.images else symlog(targets[name].float())
            found[name] = half_squared_error(means[name], target, rank=len(shape))
        if self.pays:
            found["rew"] = half_squared_error(self.arrival(state)["reward"], targets["reward"], rank=0)
        return found


def _features(state: State) -> Tensor:
    """What every head reads ``[..., S + D]``."""
    return torch.cat([state["stoch"], state["deter"]], -1)
