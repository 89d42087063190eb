"""The encoder of V-JEPA 2: a vision transformer over tubelets, with rotary positions.

Letters: B batch, T frames, C channels, N tokens, K of them kept, D width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn

from worldflux import ShapeMismatchError, State, ValidationError
from worldflux.blocks import folded

from .attention import Block
from .patches import Tubelets
from .rope import Layout, positions_of, rotation_of

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green and blue


class Sized(Protocol):
    """The options that an encoder is built from; those of a family's config by the same names."""

    obs_shape: tuple[int, ...]
    patch_size: int
    tubelet_size: int
    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float
    qkv_bias: bool
    encoder_eps: float

    @property
    def rope_layout(self) -> Layout: ...

    @property
    def image_name(self) -> str: ...


class Encoder(nn.Module):
    """Tokens of clips, and of single frames as states; parameters are called as the official ones."""

    def __init__(self, config: Sized) -> None:
        super().__init__()
        self.head_dim, self.layout = config.embed_dim // config.num_heads, config.rope_layout
        self.image = config.image_name
        self.patch_embed = Tubelets(
            config.obs_shape[0], config.embed_dim, patch=config.patch_size, tubelet=config.tubelet_size
        )
        self.blocks = nn.ModuleList(
            Block(
                config.embed_dim,
                config.num_heads,
                mlp_ratio=config.mlp_ratio,
                eps=config.encoder_eps,
                qkv_bias=config.qkv_bias,
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.embed_dim, eps=config.encoder_eps)

    def tokens(self, video: Tensor, kept: Tensor | None = None) -> Tensor:
        """A normalised clip ``[B, T, C, H, W]`` to tokens ``[B, N, D]``, or those of ``kept [B, K]``, ``[B, K, D]``.

        What is not kept is not read. Raises ShapeMismatchError for what is no clip.
        """
        x: Tensor = self.patch_embed(video)
        _, rows, columns = self.patch_embed.grid(video)
        ids = torch.arange(x.shape[1], device=x.device)
        if kept is not None:
            x, ids = select(x, kept), kept
        rotation = rotation_of(positions_of(ids, rows=rows, columns=columns), self.head_dim, self.layout)
        for block in self.blocks:
            x = block(x, rotation)
        normed: Tensor = self.norm(x)
        return normed

    def encode(self, observations: dict[str, Tensor]) -> State:
        """Images ``[..., C, H, W]`` to ``latent [..., N, D]``: each by itself, repeated to fill a tubelet."""
        frames = self.patch_embed.tubelet
        images = normalised(observations[self.image])
        return State(
            {
                "latent": folded(
                    lambda image: self.tokens(image.unsqueeze(1).expand(-1, frames, *[-1] * 3)), images, rank=3
                )
            }
        )


def normalised(images: Tensor) -> Tensor:
    """Images of bytes ``[..., C, H, W]`` as the encoder reads them: less ImageNet's mean, by its deviation.

    Images that are not red, green and blue, or several of those, take the mean of the three.
    """
    mean, deviation = (images.new_tensor(of, dtype=torch.float32) for of in (MEAN, DEVIATION))
    several, left = divmod(images.shape[-3], 3)
    if left:
        mean, deviation = mean.mean().expand(images.shape[-3]), deviation.mean().expand(images.shape[-3])
    else:
        mean, deviation = mean.repeat(several), deviation.repeat(several)
    return (images.float() / 255 - mean[:, None, None]) / deviation[:, None, None]


def select(tokens: Tensor, ids: Tensor) -> Tensor:
    """The tokens ``[B, K, D]`` of ``[B, N, D]`` whose ids ``[B, K]`` are given, in their order."""
    return tokens.gather(1, ids.long().unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def check_ids(masks: Iterable[Iterable[Tensor]], *, batch: int, tokens: int) -> None:
    """Raise ShapeMismatchError or ValidationError for ids of other clips, none at all, or beyond the clip's tokens."""
    for ids in (ids for mask in masks for ids in mask):
        if ids.ndim != 2 or ids.shape[0] != batch:
            raise ShapeMismatchError("ids of tokens", expected=(batch, "K"), got=tuple(ids.shape))
        if not ids.shape[1]:
            raise ValidationError("the mask leaves no token: context and targets need at least one id for each clip")
        low, high = ids.aminmax()
        if int(low) < 0 or int(high) >= tokens:
            raise ValidationError(
                f"the ids of tokens go from {int(low)} to {int(high)}, the clip has those from 0 to {tokens - 1}: were "
                "the masks made for another grid?"
            )
