"""Pictures as a camera or an environment gives them, in the shape that training saw."""

from __future__ import annotations

import numpy as np

from worldflux.core.errors import ValidationError
from worldflux.envs.pixels import resize


def fitted(value: np.ndarray, shape: tuple[int, ...], chw: tuple[int, ...], *, resizes: bool) -> np.ndarray:
    """Return a picture, or a batch, in the shape of its space, or as it is where nothing makes it fit.

    ``shape`` has two axes, or three with the channels first or last; ``chw`` is the same, channels first. The given
    channels may be at the other end, and where ``resizes`` the picture may have any size.

    Raises:
        ValidationError: a picture of another size whose numbers are no bytes.
    """
    channels, *size = chw
    pixels = _channels_last(value, channels, flat=len(shape) == 2)
    if pixels is None:
        return value
    if list(pixels.shape[-3:-1]) != size:
        if not resizes or size[0] != size[1] or not pixels.size:
            return value
        if pixels.dtype != np.uint8:
            raise ValidationError(f"a picture to resize has dtype {pixels.dtype}, expected uint8 from 0 to 255")
        rows = np.moveaxis(pixels.reshape(-1, *pixels.shape[-3:]), -1, 1)
        small = np.stack([resize(one, size[0]) for one in rows])
        pixels = np.moveaxis(small, 1, -1).reshape(*pixels.shape[:-3], *size, channels)
    if len(shape) == 2:
        return pixels[..., 0]
    return np.moveaxis(pixels, -1, -3) if shape == chw else pixels


def _channels_last(value: np.ndarray, channels: int, *, flat: bool) -> np.ndarray | None:
    """``[..., H, W, C]``, or None if the channels are at neither end."""
    if flat:
        return value[..., None] if value.ndim in (2, 3) else None
    if value.ndim not in (3, 4):
        return None
    if value.shape[-1] == channels:
        return value
    return np.moveaxis(value, -3, -1) if value.shape[-3] == channels else None
