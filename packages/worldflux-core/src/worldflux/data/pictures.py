"""One picture of a file as a row of observations."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.files import expanded

from .formats.common.images import decoded

MOST = 1 << 28  # bytes


def read_picture(path: str | Path, *, channels: int = 3) -> np.ndarray:
    """Return a picture as uint8 ``[C, H, W]`` with 1 (grey), 3 or 4 ``channels``, in its own size.

    Raises:
        ConfigurationError: it is no picture, damaged, or pillow is missing.
    """
    place = expanded(path)
    try:
        with place.open("rb") as file:
            data = file.read(MOST)
        pixels = decoded(data)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{place} is no picture that can be read: {error}") from None
    layers = pixels[..., None] if pixels.ndim == 2 else pixels
    if layers.shape[-1] == 4 and channels == 3:
        layers = layers[..., :3]
    if layers.shape[-1] == 1 and channels == 3:
        layers = layers.repeat(3, -1)
    if layers.shape[-1] != channels:
        raise ConfigurationError(f"{place} has {layers.shape[-1]} channels, expected {channels}")
    return np.ascontiguousarray(layers.transpose(2, 0, 1))
