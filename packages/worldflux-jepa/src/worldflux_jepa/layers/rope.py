"""Rotary positions in time, rows and columns, for the tokens of a video.

Letters: B batch, N tokens, D channels of one axis, R = 3 D rotated channels of a head. A head's channels are, in order,
D for time, D for rows, D for columns, and a rest that is left alone.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from worldflux import ConfigurationError

Layout = Literal["vjepa2", "standard"]

BASE = 10000.0
SMALLEST_HEAD = 12  # below it an axis has two channels at most, for which the official code fails


class Rotation(NamedTuple):
    """Cosines and sines of the rotated channels, ``[N, R]`` or ``[B, N, R]``, in float32."""

    cos: Tensor
    sin: Tensor


class Positions(NamedTuple):
    """Where each token is in time, row and column, ``[N]`` or ``[B, N]`` each; whole numbers or fractions of them."""

    time: Tensor
    row: Tensor
    column: Tensor


def axis_channels(head_dim: int) -> int:
    """How many channels of a head each axis rotates. Raises ConfigurationError for a head below 12 channels."""
    if head_dim < SMALLEST_HEAD:
        raise ConfigurationError(
            f"heads of {head_dim} channels are too narrow to tell time, row and column: rotary positions need at least "
            f"{SMALLEST_HEAD} (fewer heads, or a larger width)"
        )
    return 2 * ((head_dim // 3) // 2)


def positions_of(ids: Tensor, *, rows: int, columns: int) -> Positions:
    """The positions of tokens ``ids [N]`` or ``[B, N]``, which count columns first, then rows, then time."""
    rest = ids % (rows * columns)
    return Positions(
        torch.div(ids, rows * columns, rounding_mode="floor"),
        torch.div(rest, columns, rounding_mode="floor"),
        rest % columns,
    )


def axis_rotation(position: Tensor, channels: int, layout: Layout) -> Rotation:
    """The rotation of one axis, ``[..., channels]``, for positions ``[...]``.

    Channels are turned in pairs ``(2i, 2i + 1)``. In the layout "standard" both of a pair turn by one angle; in
    "vjepa2" channel ``j`` turns by angle ``j % (channels / 2)``, which no rotation does, but all released weights
    were trained with.
    """
    half = channels // 2
    exponents = torch.arange(half, device=position.device, dtype=torch.float32) / half
    angles = position.float().unsqueeze(-1) * BASE**-exponents
    angles = angles.repeat_interleave(2, -1) if layout == "standard" else torch.cat([angles, angles], -1)
    return Rotation(angles.cos(), angles.sin())


def rotation_of(positions: Positions, head_dim: int, layout: Layout) -> Rotation:
    """The rotation of the heads of tokens at ``positions``. Raises ConfigurationError for heads that are too narrow."""
    channels = axis_channels(head_dim)
    axes = [axis_rotation(position, channels, layout) for position in positions]
    return Rotation(torch.cat([axis.cos for axis in axes], -1), torch.cat([axis.sin for axis in axes], -1))


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Queries or keys ``[B, heads, N, head_dim]`` turned by where their tokens are; positions of 0 change nothing."""
    cos, sin = (part.unsqueeze(-3) if part.ndim == 3 else part for part in rotation)
    turned, rest = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    even, odd = turned.unflatten(-1, (-1, 2)).unbind(-1)
    across = torch.stack([-odd, even], -1).flatten(-2)
    return torch.cat([(turned * cos + across * sin).to(x), rest], -1)
