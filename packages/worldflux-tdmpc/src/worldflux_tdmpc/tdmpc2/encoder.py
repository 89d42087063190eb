"""From observations to the latent state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldflux import State
from worldflux.blocks import Conv, folded, joined_vectors, simnorm

from .config import TASK, TDMPC2Config
from .networks import joined, mlp

PAD = 3  # pixels a picture may be shifted by, either way


class Encoder(nn.Module):
    """An MLP for all vectors together, convolutions for all images together; their features are added, then SimNorm.

    With one of the two it is the official encoder.
    """

    def __init__(self, config: TDMPC2Config) -> None:
        super().__init__()
        self.images, self.group = config.image_names, config.simnorm_dim
        self.ranks = {name: len(config.modalities[name].shape) for name in config.vector_names}
        if self.ranks:
            units = [config.enc_dim] * max(config.num_enc_layers - 1, 1)
            self.state = mlp(config.vector_size + config.embedding_dim, units, config.latent_dim, normed=True)
        if self.images:
            self.rgb = convolutions(config.image_channels, config.num_channels)

    def encode(self, observations: dict[str, Tensor]) -> State:
        """Modalities ``[..., B, *shape]``, and ``task`` as its embedding ``[B, E]``, to ``latent [..., B, D]``."""
        features = []
        if self.ranks:
            features.append(self.state(joined(joined_vectors(observations, self.ranks), observations.get(TASK))))
        if self.images:
            stacked = torch.cat([observations[name] for name in self.images], -3)
            features.append(folded(lambda image: self.rgb(image.float() / 255 - 0.5), stacked, rank=3))
        return State({"latent": simnorm(sum(features[1:], features[0]), self.group)})


def convolutions(inputs: int, channels: int) -> nn.Sequential:
    """Four convolutions from 64 × 64 to 4 × 4 pixels, flattened: ``16 * channels`` features."""
    return nn.Sequential(
        Conv(inputs, channels, 7, stride=2), nn.ReLU(),
        Conv(channels, channels, 5, stride=2), nn.ReLU(),
        Conv(channels, channels, 3, stride=2), nn.ReLU(),
        Conv(channels, channels, 3), nn.Flatten(),
    )  # fmt: skip


def shifted(images: Tensor, shift: Tensor) -> Tensor:
    """Move images ``[..., C, H, W]`` by ``shift [..., 2]`` (x, y) in 0 … 6, where 3 is in place; edges are repeated."""
    height, width = images.shape[-2:]
    across = _source(shift[..., 0], width).unsqueeze(-2).unsqueeze(-2).expand(images.shape)
    down = _source(shift[..., 1], height).unsqueeze(-2).unsqueeze(-1).expand(images.shape)
    return images.gather(-2, down).gather(-1, across)


def _source(offset: Tensor, size: int) -> Tensor:
    """Where each of ``size`` pixels comes from, ``[..., size]``."""
    places = torch.arange(size, device=offset.device)
    return (places + offset.long().unsqueeze(-1) - PAD).clamp(0, size - 1)


def draw_shift(*shape: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Random shifts ``[*shape, 2]`` for ``shifted``."""
    return torch.randint(0, 2 * PAD + 1, (*shape, 2), generator=generator, device=device)
