"""Pictures as a pretrained encoder expects them; no image library is needed.

Letters: C channels, H and W pixels, S pixels a side of what the encoder is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from worldflux import CheckpointError

from .kinds import Kind

MARGIN = 256 / 224  # the short edge before the crop, over the crop
BICUBIC = 3  # as image libraries number it


@dataclass(frozen=True)
class PixelRules:
    """How pixels become what an encoder was trained on: the short edge is scaled to ``short_edge`` pixels, the middle
    ``size × size`` are cut out, then ``(x - mean) / std`` by channel, x in [0, 1]."""

    size: int
    short_edge: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mode: str = "bilinear"

    def sized(self, size: int) -> PixelRules:
        """The same for another size, without margins: nothing of a square picture is cut off."""
        return PixelRules(size, size, self.mean, self.std, self.mode)

    def __call__(self, images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Images ``[B, 3, H, W]``, uint8 or in [0, 1], to ``[B, 3, S, S]``; ``mean`` and ``std`` ``[3, 1, 1]``."""
        x = images.to(mean) if images.is_floating_point() else images.to(mean) / 255
        x = cropped(scaled(x, self.short_edge, self.mode), self.size)
        return (x - mean) / std


def scaled(x: Tensor, short_edge: int, mode: str) -> Tensor:
    """Images ``[B, C, H, W]`` with the short edge scaled to so many pixels, the other one in proportion."""
    height, width = x.shape[-2:]
    if min(height, width) == short_edge:
        return x
    ratio = short_edge / min(height, width)
    sides = [max(short_edge, int(side * ratio)) for side in (height, width)]
    return F.interpolate(x, sides, mode=mode, antialias=True, align_corners=False).clamp(0, 1)


def cropped(x: Tensor, size: int) -> Tensor:
    """The middle ``size × size`` pixels of images ``[B, C, H, W]`` that have at least as many."""
    top, left = ((side - size) // 2 for side in x.shape[-2:])
    return x[..., top : top + size, left : left + size]


def rules_of(kind: Kind, config: Mapping[str, Any], processor: Mapping[str, Any]) -> PixelRules:
    """The rules of an encoder, from its preprocessor_config.json where it has one, else from its config.

    Raises CheckpointError for numbers that cannot be meant.
    """
    size = _size(processor.get("crop_size")) or _size(config.get("crop_size")) or _size(config.get("image_size")) or 224
    mean = tuple(processor.get("image_mean") or kind.pixels[0])
    std = tuple(processor.get("image_std") or kind.pixels[1])
    if len(mean) != 3 or len(std) != 3 or not all(isinstance(x, float | int) for x in (*mean, *std)) or min(std) <= 0:
        raise CheckpointError(f"image_mean {mean} and image_std {std} are not three numbers each, the latter above 0")
    mode = "bicubic" if processor.get("resample") == BICUBIC else "bilinear"
    return PixelRules(size, max(size, int(size * MARGIN)), mean, std, mode)


def _size(value: Any) -> int | None:
    """Pixels a side, which files write in several ways."""
    if isinstance(value, Mapping):
        value = value.get("height", value.get("shortest_edge"))
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
