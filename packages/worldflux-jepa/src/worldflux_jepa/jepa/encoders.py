"""From observations to latents: what reads images, what joins vectors to it, and the projector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldflux import ConfigurationError, State
from worldflux.blocks import Linear, dense, folded, joined_vectors

from ..layers.convs import Impala, halving_convs
from ..layers.vit import VisionTransformer
from .config import JEPAConfig


class Encoder(nn.Module):
    """Images or features, and vectors, to one latent a row, or to several (patches).

    Of several latents each ends with the vectors' embedding, which the projector does not see.
    """

    def __init__(self, config: JEPAConfig) -> None:
        super().__init__()
        self.images, self.features = config.image_names, config.feature_names
        self.ranks = {name: len(config.modalities[name].shape) for name in config.vector_names}
        self.several = config.num_tokens > 1
        self.pixels = Pixels(config) if self.images else None
        self.image = image_encoder(config) if self.images else None
        self.vectors = vector_encoder(config) if self.ranks else None
        self.projector = projector(config)

    def encode(self, observations: dict[str, Tensor]) -> State:
        """Modalities ``[..., *shape]`` to ``latent [..., D]``, or ``[..., N, D]``."""
        seen = self.seen(observations)
        told = None if self.vectors is None else self.vectors(joined_vectors(observations, self.ranks))
        if not self.several:
            parts = [part for part in (seen, told) if part is not None]
            return State({"latent": self.project(torch.cat(parts, -1))})
        assert seen is not None
        latent = self.project(seen)
        if told is not None:
            latent = torch.cat([latent, told.unsqueeze(-2).expand(*latent.shape[:-1], -1)], -1)
        return State({"latent": latent})

    def seen(self, observations: dict[str, Tensor]) -> Tensor | None:
        """What is read of images ``[..., F]`` or ``[..., N, F]``; None where there are only vectors."""
        if self.features:
            return observations[self.features[0]].float()
        if self.image is None or self.pixels is None:
            return None
        images = [observations[name] for name in self.images]
        stacked = torch.cat(images, -3) if len(images) > 1 else images[0]
        return folded(lambda image: self.image(self.pixels(image)), stacked, rank=3)  # type: ignore[misc]

    def project(self, x: Tensor) -> Tensor:
        """Features ``[..., F]`` to latents ``[..., D]``; batch norms take all rows together."""
        return folded(self.projector, x, rank=1)


class Pixels(nn.Module):
    """Bytes or floats in [0, 255] to ``(x / 255 - mean) / std`` by channel.

    They are laid out channels last, which convolutions on processors are faster with.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, config: JEPAConfig) -> None:
        super().__init__()
        mean, std = (
            torch.tensor(values).repeat(config.image_channels // len(values)).reshape(-1, 1, 1)
            for values in (config.image_mean, config.image_std)
        )
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """``[N, C, H, W]`` to the same."""
        return torch.addcmul(self.shift, image.float().contiguous(memory_format=torch.channels_last), self.scale)


class External:
    """Stands where an encoder is to be put."""

    def encode(self, observations: dict[str, Tensor]) -> State:
        """Raise ConfigurationError: nobody put one here."""
        raise ConfigurationError(
            "encoder='external' builds no encoder: give create_world_model component_overrides="
            "{'observation_encoder': ...}: a registered id, a class or an instance"
        )


def image_encoder(config: JEPAConfig) -> nn.Module:
    """What reads images ``[N, C, H, W]``, as features ``[N, F]``, or with patches ``[N, P, F]``."""
    if config.encoder == "impala":
        return Impala(config.image_channels, config.channels)
    if config.encoder == "cnn":
        return halving_convs(config.image_channels, config.channels)
    height, width = (side // config.patch_size for side in config.image_size)
    grid = (config.position_grid, config.position_grid) if config.position_grid else (height, width)
    return VisionTransformer(
        config.image_channels, patch=config.patch_size, grid=grid, dim=config.encoder_units,
        depth=config.encoder_depth, heads=config.encoder_heads, units=config.encoder_mlp, patches=config.patches,
    )  # fmt: skip


def vector_encoder(config: JEPAConfig) -> nn.Module:
    """What reads all vectors together: an MLP, or beside several latents one layer, as DINO-WM's."""
    if config.num_tokens > 1:
        return Linear(config.vector_size, config.vector_units)
    return dense((config.vector_size, config.vector_units, config.vector_units), nn.ReLU)


def projector(config: JEPAConfig) -> nn.Sequential:
    """Features ``[N, F]`` to latents ``[N, D]``, and the norm they end with."""
    inputs, outputs = config.feature_dim, config.image_dim
    layers: list[nn.Module] = []
    if config.projector == "mlp":
        layers += normed_mlp(inputs, config.projector_units, outputs)
    elif config.projector == "linear":
        layers.append(Linear(inputs, outputs))
    if config.latent_norm == "batch":
        layers.append(nn.BatchNorm1d(outputs, affine=False))
    elif config.latent_norm == "layer":
        layers.append(nn.LayerNorm(outputs))
    return nn.Sequential(*layers)


def normed_mlp(inputs: int, units: int, outputs: int) -> list[nn.Module]:
    """A hidden layer with batch norm and GELU, for rows ``[N, inputs]``."""
    return [Linear(inputs, units), nn.BatchNorm1d(units), nn.GELU(), Linear(units, outputs)]
