"""Videos cut into tubelets: what a vision transformer takes for tokens.

Letters: B batch, T frames, C channels, H and W pixels, N tokens, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux import ShapeMismatchError


class Tubelets(nn.Module):
    """A linear map of each tubelet of ``tubelet`` frames and ``patch × patch`` pixels; weights as a 3D convolution's.

    Source: the official V-JEPA 2, whose convolution has its kernel for a stride.
    """

    def __init__(self, channels: int, width: int, *, patch: int, tubelet: int) -> None:
        super().__init__()
        self.patch, self.tubelet = patch, tubelet
        self.proj = Kernel(channels, width, (tubelet, patch, patch))

    def grid(self, video: Tensor) -> tuple[int, int, int]:
        """How many tubelets a video ``[B, T, C, H, W]`` has in time, rows and columns; frames left over do not count.

        Raises ShapeMismatchError for another layout, a clip shorter than a tubelet, or sides that hold no whole number
        of patches.
        """
        channels = self.proj.weight.shape[1]
        if video.ndim != 5 or video.shape[2] != channels:
            swapped = video.ndim == 5 and video.shape[1] == channels
            hint = ": time and channels are swapped, transpose(1, 2) puts them right" if swapped else ""
            raise ShapeMismatchError(
                f"a video is [B, T, C, H, W] with {channels} channels{hint}",
                expected=("B", "T", channels, "H", "W"),
                got=tuple(video.shape),
            )
        frames, height, width = video.shape[1], *video.shape[3:]
        if frames < self.tubelet:
            raise ShapeMismatchError(
                f"the clip is shorter than a tubelet of {self.tubelet} frames: give more, or repeat the frame",
                expected=("B", f">= {self.tubelet}", *video.shape[2:]),
                got=tuple(video.shape),
            )
        if height % self.patch or width % self.patch:
            raise ShapeMismatchError(
                f"frames of {height} x {width} pixels hold no whole number of {self.patch} x {self.patch} patches: "
                "resize or crop them",
                expected=(f"multiples of {self.patch}",) * 2,
                got=(height, width),
            )
        return frames // self.tubelet, height // self.patch, width // self.patch

    def forward(self, video: Tensor) -> Tensor:
        """A video ``[B, T, C, H, W]`` to tokens ``[B, N, D]``, columns counted first, then rows, then time."""
        time, rows, columns = self.grid(video)
        cut = video[:, : time * self.tubelet].unflatten(1, (time, self.tubelet))
        cut = cut.unflatten(4, (rows, self.patch)).unflatten(6, (columns, self.patch))
        tubes = cut.permute(0, 1, 4, 6, 3, 2, 5, 7)  # B, time, rows, columns, C, tubelet, patch, patch
        return F.linear(tubes.flatten(4).flatten(1, 3), self.proj.weight.flatten(1), self.proj.bias)


class Kernel(nn.Module):
    """A kernel ``weight [D, C, *size]`` and a ``bias [D]``, allocated and not initialised."""

    def __init__(self, channels: int, width: int, size: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, channels, *size))
        self.bias = nn.Parameter(torch.empty(width))
