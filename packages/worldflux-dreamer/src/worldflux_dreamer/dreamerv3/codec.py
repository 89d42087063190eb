"""From observations to tokens, and from latent states to what they show and pay."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux import ConditionPayload, State
from worldflux.blocks import KernelConv, folded, joined_vectors, split_modalities, symexp, symlog

from .config import DreamerV3Config
from .distributions import TwoHot
from .losses import binary_loss, image_loss, vector_loss
from .networks import MLP, BlockLinear, Head, Linear, NormedConv, NormedLinear, channel_norm
from .rssm import features


class Encoder(nn.Module):
    """Vectors through an MLP of symlog inputs, images through four convolutions; both joined to ``tokens [..., E]``.

    Modalities of a kind are joined in sorted order. Missing vectors (any entry -inf) count as zeros.
    Source: Hafner et al. 2023, appendix; danijar/dreamerv3 ``rssm.py`` (``enc.simple``).
    """

    def __init__(self, config: DreamerV3Config) -> None:
        super().__init__()
        specs = config.modalities
        self.images, self.vectors = split_modalities(specs)
        self.ranks = {name: len(specs[name].shape) for name in self.vectors}
        self.token_dim = 0
        if self.vectors:
            width = sum(math.prod(specs[name].shape) for name in self.vectors)
            self.mlp = MLP(width, config.units, config.encoder_layers)
            self.token_dim += self.mlp.outputs
        if self.images:
            sizes = [sum(specs[name].shape[0] for name in self.images), *config.channels]
            self.cnn = nn.ModuleList(NormedConv(a, b, config.kernel) for a, b in zip(sizes, sizes[1:]))
            self.token_dim += sizes[-1] * math.prod(config.min_resolution)

    def encode(self, observations: dict[str, Tensor]) -> State:
        """Modalities ``[..., *shape]`` to ``State({"tokens": [..., E]})``."""
        parts = []
        if self.vectors:
            parts.append(self.mlp(self.vector_input(observations)))
        if self.images:
            parts.append(folded(self._convolve, torch.cat([centred(observations[n]) for n in self.images], -3), rank=3))
        return State({"tokens": torch.cat(parts, -1) if len(parts) > 1 else parts[0]})

    def vector_input(self, observations: dict[str, Tensor]) -> Tensor:
        """The MLP's input ``[..., V]``: symlog of each vector, joined."""
        return joined_vectors(observations, self.ranks, _known_symlog)

    def _convolve(self, x: Tensor) -> Tensor:
        for layer in self.cnn:
            x = layer(x, pool=True)
        return x.movedim(1, -1).flatten(1)  # (H, W, C) order, as the official weights expect


def _known_symlog(x: Tensor) -> Tensor:
    return symlog(x.masked_fill(x.isneginf().any(-1, keepdim=True), 0.0))


def centred(image: Tensor) -> Tensor:
    """Bytes, or numbers in [0, 1], as numbers in [-0.5, 0.5]."""
    return image.float() - 0.5 if image.is_floating_point() else image.float() / 255 - 0.5


class ImageDecoder(nn.Module):
    """Images from a small map that the deterministic part fills block by block and the stochastic part densely."""

    def __init__(self, config: DreamerV3Config, channels: int) -> None:
        super().__init__()
        depths = config.channels
        self.blocks, self.size, self.depth = config.decoder_blocks, config.min_resolution, depths[-1]
        width = math.prod(self.size) * self.depth
        self.from_deter = BlockLinear(config.deter_dim, width, self.blocks)
        self.from_stoch = NormedLinear(config.stoch_dim, 2 * config.units)
        self.from_hidden = Linear(2 * config.units, width)
        self.scale = nn.Parameter(torch.ones(self.depth))
        downward = list(reversed(depths))
        self.convs = nn.ModuleList(NormedConv(a, b, config.kernel) for a, b in zip(downward, downward[1:]))
        self.out = KernelConv(depths[0], channels, config.kernel)

    def forward(self, deter: Tensor, stoch: Tensor) -> Tensor:
        """``deter [N, D]``, ``stoch [N, S * C]`` to pixels in (0, 1) ``[N, channels, H, W]``."""
        rows, cols = self.size
        grouped = self.from_deter(deter).reshape(-1, self.blocks, rows, cols, self.depth // self.blocks)
        grouped = grouped.permute(0, 2, 3, 1, 4).reshape(-1, rows, cols, self.depth)  # (N, h, w, g c)
        dense = self.from_hidden(self.from_stoch(stoch)).reshape(-1, rows, cols, self.depth)
        x = channel_norm((grouped + dense).movedim(-1, 1), self.scale)
        for conv in self.convs:
            x = conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return torch.sigmoid(self.out(F.interpolate(x, scale_factor=2.0, mode="nearest")))


class Decoder(nn.Module):
    """Observations, reward and the probability to go on, from ``deter [..., D]`` and ``stoch [..., S, C]``.

    Of the latter two only what the config has a head for.

    Source: Hafner et al. 2023; danijar/dreamerv3 ``rssm.py`` (``dec.simple``) and ``heads.py``.
    """

    def __init__(self, config: DreamerV3Config) -> None:
        super().__init__()
        self.shapes = {name: spec.shape for name, spec in config.modalities.items()}
        self.images, self.vectors = split_modalities(config.modalities)
        latent, units = config.deter_dim + config.stoch_dim, config.units
        if self.vectors:
            self.mlp = MLP(latent, units, config.decoder_layers)
            self.vec = nn.ModuleDict({n: Linear(units, math.prod(self.shapes[n])) for n in self.vectors})
        if self.images:
            self.image = ImageDecoder(config, sum(self.shapes[name][0] for name in self.images))
        self.pays, self.ends = config.reward_head, config.continue_head
        if self.pays:
            self.reward = Head(latent, units, config.reward_layers, config.bins, outscale=0.0)
        if self.ends:
            self.cont = Head(latent, units, config.continue_layers, 1)

    def decode(self, state: State, conditions: ConditionPayload | None = None) -> dict[str, Tensor]:
        """Predictions ``[B, ...]`` in the data's units: vectors as observed, images in [0, 1], reward, continue."""
        preds = self.observations(state)
        return {**preds, **{name: symexp(preds[name]) for name in self.vectors}, **self.arrival(state)}

    def arrival(self, state: State) -> dict[str, Tensor]:
        """The ``reward`` of arriving in states ``[..., D]``, and the probability to ``continue``, both ``[...]``."""
        feat, found = features(state), dict[str, Tensor]()
        if self.pays:
            found["reward"] = TwoHot(self.reward(feat)).pred()
        if self.ends:
            found["continue"] = torch.sigmoid(self.cont(feat)[..., 0].float())
        return found

    def observations(self, state: State) -> dict[str, Tensor]:
        """Raw means by modality: vectors ``[..., *shape]`` in symlog space, images ``[..., C, H, W]`` in (0, 1)."""
        deter, stoch = state["deter"], state["stoch"].flatten(-2)
        lead, means = deter.shape[:-1], dict[str, Tensor]()
        if self.vectors:
            x = self.mlp(torch.cat([stoch, deter], -1))  # this order here, the other one in every head
            means |= {n: self.vec[n](x).reshape(*lead, *self.shapes[n]) for n in self.vectors}
        if self.images:
            pixels = self.image(deter.reshape(-1, deter.shape[-1]), stoch.reshape(-1, stoch.shape[-1]))
            parts = pixels.reshape(*lead, *pixels.shape[1:]).split([self.shapes[n][0] for n in self.images], -3)
            means |= dict(zip(self.images, parts))
        return means

    def losses(self, state: State, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses ``[...]`` by name; ``targets``: each observation as stored, ``reward``, and ``continue`` in [0, 1].

        Without a head there is no such loss, and its target is not read.
        """
        means, found, feat = self.observations(state), dict[str, Tensor](), features(state)
        for name in self.vectors:
            found[name] = vector_loss(means[name], targets[name], rank=len(self.shapes[name]))
        for name in self.images:
            found[name] = image_loss(means[name], targets[name])
        if self.pays:
            found["rew"] = TwoHot(self.reward(feat)).loss(targets["reward"])
        if self.ends:
            found["con"] = binary_loss(self.cont(feat)[..., 0], targets["continue"])
        return found
