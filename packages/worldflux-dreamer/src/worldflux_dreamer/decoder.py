"""From a latent state to what it shows and pays."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux.core.payloads import ConditionPayload
from worldflux.core.state import State

from .config import DreamerV3Config
from .distributions import TwoHot, binary_loss, symexp, symlog
from .encoder import NormedConv, channel_norm
from .networks import MLP, BlockLinear, Conv, Head, Linear, NormedLinear


def features(deter: Tensor, stoch: Tensor) -> Tensor:
    """What every head reads: ``[..., D + S * C]``."""
    return torch.cat([deter, stoch.flatten(-2)], -1)


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
        self.out = Conv(depths[0], channels, config.kernel)

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

    Source: Hafner et al. 2023; danijar/dreamerv3 ``rssm.py`` (``dec.simple``) and ``heads.py``.
    """

    def __init__(self, config: DreamerV3Config) -> None:
        super().__init__()
        specs = config.modalities
        self.images, self.vectors = config.image_names, config.vector_names
        self.shapes = {name: spec.shape for name, spec in specs.items()}
        latent, units = config.deter_dim + config.stoch_dim, config.units
        if self.vectors:
            self.mlp = MLP(latent, units, config.decoder_layers)
            self.vec = nn.ModuleDict({n: Linear(units, math.prod(self.shapes[n])) for n in self.vectors})
        if self.images:
            self.image = ImageDecoder(config, sum(self.shapes[name][0] for name in self.images))
        self.reward = Head(latent, units, config.reward_layers, config.bins, outscale=0.0)
        self.cont = Head(latent, units, config.continue_layers, 1)

    def decode(self, state: State, conditions: ConditionPayload | None = None) -> dict[str, Tensor]:
        """Predictions ``[B, ...]`` in the data's units: vectors as observed, images in [0, 1], reward, continue."""
        deter, stoch = state["deter"], state["stoch"]
        preds = self.observations(deter, stoch)
        preds |= {name: symexp(preds[name]) for name in self.vectors}
        reward, going_on = self.arrival(features(deter, stoch))
        return {**preds, "reward": reward, "continue": going_on}

    def arrival(self, feat: Tensor) -> tuple[Tensor, Tensor]:
        """Reward and probability to go on ``[...]`` from features ``[..., D + S * C]``."""
        return TwoHot(self.reward(feat)).pred(), torch.sigmoid(self.cont(feat)[..., 0].float())

    def observations(self, deter: Tensor, stoch: Tensor) -> dict[str, Tensor]:
        """Raw means by modality: vectors ``[..., *shape]`` in symlog space, images ``[..., C, H, W]`` in (0, 1)."""
        lead, stoch = deter.shape[:-1], stoch.flatten(-2)
        means: dict[str, Tensor] = {}
        if self.vectors:
            x = self.mlp(torch.cat([stoch, deter], -1))  # this order here, the other one in every head
            means |= {n: self.vec[n](x).reshape(*lead, *self.shapes[n]) for n in self.vectors}
        if self.images:
            pixels = self.image(deter.reshape(-1, deter.shape[-1]), stoch.reshape(-1, stoch.shape[-1]))
            parts = pixels.reshape(*lead, *pixels.shape[1:]).split([self.shapes[n][0] for n in self.images], -3)
            means |= dict(zip(self.images, parts))
        return means

    def losses(self, state: State, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses ``[...]`` by name; ``targets``: each observation as stored, ``reward``, and ``continue`` in [0, 1]."""
        deter, stoch = state["deter"], state["stoch"]
        found: dict[str, Tensor] = {}
        for name, mean in self.observations(deter, stoch).items():
            found[name] = observation_loss(mean, targets[name], image=name in self.images, rank=len(self.shapes[name]))
        feat = features(deter, stoch)
        found["rew"] = TwoHot(self.reward(feat)).loss(targets["reward"])
        found["con"] = binary_loss(self.cont(feat)[..., 0], targets["continue"])
        return found


def observation_loss(mean: Tensor, target: Tensor, *, image: bool, rank: int) -> Tensor:
    """Squared error summed over the ``rank`` event axes: on pixels in [0, 1], or on symlog values; no factor 1/2."""
    if image:
        target = target.float() / 255 if not target.is_floating_point() else target
    else:
        target = symlog(target.float())
    error = (mean - target).square()
    return error.flatten(error.ndim - rank).sum(-1) if rank else error
