"""A pretrained encoder in the place of another family's own."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from worldflux import ConfigurationError, State, WorldModelConfig, WorldModelRegistry
from worldflux.blocks import joined_vectors, simnorm, split_modalities

from .encoders import Features, FrozenEncoder
from .weights import Weights, weights_at


class PretrainedEncoder(nn.Module):
    """A frozen encoder for images, beside them the vectors as they are, and one layer to the width that is asked for.

    ``encode`` gives ``name [..., E]``, or ``[..., N, E]`` where the family wants several. Only the layer learns; where
    the encoder's own width is the one asked for, and there are no vectors, there is none.
    """

    def __init__(self, features: Features, config: WorldModelConfig) -> None:
        super().__init__()
        specs = config.modalities
        self.name, shape = wanted(config)
        self.features = features
        self.ranks = {name: len(specs[name].shape) for name in split_modalities(specs)[1]}
        self.group = int(getattr(config, "simnorm_dim", 0))  # a family whose latents are groups of simplices
        inputs = features.width + sum(math.prod(specs[name].shape) for name in self.ranks)
        tokens = shape[0] if len(shape) > 1 else 1
        if tokens != features.tokens:
            raise ConfigurationError(
                f"{config.model_type!r} asks for {tokens} latents a row, the encoder gives {features.tokens}: set "
                f"tokens={features.tokens}, or another pool"
            )
        same = inputs == shape[-1] and not self.ranks and not self.group
        if not same and getattr(config, "target", None) == "frozen":
            raise ConfigurationError(
                f"target='frozen' predicts the encoder's own {features.width} channels, the latent {shape[-1]}: set "
                f"latent_dim={features.width}, and observe images alone"
            )
        self.layer = nn.Identity() if same else nn.Linear(inputs, shape[-1])

    def encode(self, observations: dict[str, Tensor]) -> State:
        """Modalities ``[..., *shape]`` to ``State``; images uint8 or floats in [0, 1]."""
        x = self.features(observations)
        if self.ranks:
            told = joined_vectors(observations, self.ranks)
            if self.features.tokens > 1:
                told = told.unsqueeze(-2).expand(*x.shape[:-1], -1)
            x = torch.cat([x, told.to(x)], -1)
        x = self.layer(x)
        return State({self.name: simnorm(x, self.group) if self.group else x})


def pretrained(
    source: str | os.PathLike[str],
    *,
    revision: str | None = None,
    image_size: int = 0,
    pool: str = "mean",
    trust_remote_code: bool = False,
) -> Callable[[WorldModelConfig], PretrainedEncoder]:
    """Return what fills the slot ``observation_encoder`` of any family that observes images.

    Args:
        source: a folder written by ``save_pretrained`` of ``transformers``, or a Hub id.
        revision: of a Hub id, a commit or a branch.
        image_size: pixels a side that pictures are scaled to; 0 is the encoder's own size.
        pool: "mean" of the patches, "cls", or "patches" for families with several latents a row.
        trust_remote_code: refused; nobody's code is run.

    Raises ConfigurationError or CheckpointError, when the part is made.
    """
    if trust_remote_code:
        raise ConfigurationError("trust_remote_code=True: code that comes with weights is never run here; leave it out")
    if pool not in ("mean", "cls", "patches"):
        raise ConfigurationError(f"pool is {pool!r}, expected 'mean', 'cls' or 'patches'")

    def part(config: WorldModelConfig) -> PretrainedEncoder:
        return part_of(weights_at(source, revision=revision), config, image_size=image_size, pool=pool)

    return part


def part_of(
    weights: Weights, config: WorldModelConfig, *, network: Any = None, image_size: int = 0, pool: str = "mean"
) -> PretrainedEncoder:
    """The part of given weights for a model's config; ``network`` stands in for the one they would be built to."""
    encoder = FrozenEncoder(weights, image_size=image_size, network=network)
    return PretrainedEncoder(Features(encoder, channels_of(config), pool=pool), config)


def channels_of(config: WorldModelConfig) -> dict[str, int]:
    """Channels of each image that a model observes."""
    specs = config.modalities
    return {name: specs[name].shape[0] for name in split_modalities(specs)[0]}


def wanted(config: WorldModelConfig) -> tuple[str, tuple[int, ...]]:
    """What the family's own encoder gives of one observation, by name and shape; without one, the state's latent.

    Raises ConfigurationError for a family that has neither.
    """
    family: Any = WorldModelRegistry.model(config.model_type).model_class
    model = None
    for device in ("meta", "cpu"):  # first without memory, where the family can be built so
        try:
            with torch.device(device), torch.no_grad():
                model = family(config).eval()
                blank = {
                    name: torch.zeros(1, *spec.shape, dtype=getattr(torch, spec.dtype))
                    for name, spec in config.modalities.items()
                }
                given = model.observation_encoder.encode(blank)
            (name, value), *others = given.tensors.items()
            if not others:
                return name, tuple(value.shape[1:])
        except (RuntimeError, NotImplementedError):
            continue
        except ConfigurationError:
            break
    latent = None if model is None else model.state_spec().tensors.get("latent")
    if latent is None:
        raise ConfigurationError(f"{config.model_type!r} does not say what its observation encoder is to give")
    return "latent", tuple(latent.shape)
