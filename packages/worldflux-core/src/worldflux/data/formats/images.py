"""Pictures as rows: encoded or plain, in any order of axes, to uint8 ``[n, C, H, W]``."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from worldflux.core.spec import ModalityKind, ModalitySpec
from worldflux.envs.spaces import image_layout

from .guard import need


def is_image(shape: Sequence[int], dtype: Any) -> bool:
    """Tell whether rows of this shape and dtype are pictures, as an environment's are: uint8 of two or three axes."""
    return np.dtype(dtype) == np.uint8 and len(shape) in (2, 3) and all(shape)


def image_spec(name: str, shape: Sequence[int]) -> ModalitySpec:
    """Return the spec of pictures whose rows have this shape in the file."""
    return ModalitySpec(ModalityKind.IMAGE, image_layout(tuple(shape))[0], "uint8", "CHW", name)


def as_images(rows: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return rows ``[n, *shape]`` (or flat) as ``[n, C, H, W]``."""
    rows = np.asarray(rows).reshape(len(rows), *shape)
    if len(shape) == 2:
        return rows[:, None]
    return rows if image_layout(tuple(shape))[0] == tuple(shape) else rows.transpose(0, 3, 1, 2)


def decoded(data: Any, shape: Sequence[int] | None = None) -> np.ndarray:
    """Return an encoded picture (JPEG, PNG) as uint8 ``[H, W, C]``, or ``[H, W]`` if it is grey.

    ``shape`` is what it must have, checked before its pixels take memory. Raises ValueError or OSError.
    """
    pictures = need("PIL.Image", "reading pictures")
    try:
        opened = pictures.open(io.BytesIO(bytes(data)))
    except pictures.UnidentifiedImageError:
        raise ValueError(f"its {len(data):,} bytes are no picture") from None
    with opened as picture:
        wide, high = picture.size
        if shape is not None and (high, wide) != tuple(shape[:2]):
            raise ValueError(f"it is a picture of {high} x {wide}, expected {shape[0]} x {shape[1]}")
        if picture.mode not in ("L", "RGB", "RGBA"):
            picture = picture.convert("RGB")
        pixels = np.asarray(picture, np.uint8)
    if shape is not None and pixels.shape != tuple(shape):
        if pixels.size != np.prod(shape):
            raise ValueError(f"it is a picture {pixels.shape}, expected {tuple(shape)}")
        pixels = pixels.reshape(shape)
    return pixels
