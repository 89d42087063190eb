"""Pictures as rows: encoded or plain, in any order of axes, to uint8 ``[n, C, H, W]``."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from worldflux.core.spec import ModalityKind, ModalitySpec
from worldflux.envs.spaces import image_layout

from ...extra import need

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # whose readers in Pillow run nothing else
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by the number of channels


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
    """Return an encoded picture as uint8 ``[H, W, C]``, or ``[H, W]`` if it is grey; of ``shape`` if that is given.

    The size is checked before its pixels take memory. Raises ValueError or OSError for any other, or a damaged one.
    """
    pictures = need("PIL.Image", "reading pictures")
    data = bytes(data)
    _check_sums(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            opened = pictures.open(io.BytesIO(data), formats=_FORMATS)
    except pictures.UnidentifiedImageError:
        raise ValueError(f"its {len(data):,} bytes are no picture ({', '.join(_FORMATS)})") from None
    with opened as picture:
        wide, high = picture.size
        if shape is not None and (high, wide) != tuple(shape[:2]):
            raise ValueError(f"it is a picture of {high} x {wide}, expected {shape[0]} x {shape[1]}")
        mode = picture.mode if picture.mode in _MODES.values() else "RGB"
        if shape is not None:
            mode = _MODES[shape[2] if len(shape) == 3 else 1]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pixels = np.asarray(picture.convert(mode), np.uint8)
    return pixels if shape is None else pixels.reshape(shape)


def _check_sums(data: bytes) -> None:
    """Raise ValueError for a PNG with a part that its own checksum does not fit; Pillow does not look at pixels'."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return
    at, kind = 8, b""
    while at < len(data) and kind != b"IEND":
        if at + 12 > len(data):
            raise ValueError("it is cut short")
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        end = at + 8 + length
        if zlib.crc32(data[at + 4 : end]).to_bytes(4, "big") != data[end : end + 4]:
            raise ValueError(f"its part {kind!r} does not fit its checksum")
        at = end + 4
    if kind != b"IEND":
        raise ValueError("it is cut short")
