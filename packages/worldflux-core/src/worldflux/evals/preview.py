"""A look at recorded episodes: a contact sheet, and an animation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.data import Dataset
from worldflux.files import expanded, replacing
from worldflux.words.counts import counted

from .extras import require_viz
from .strips import INK, PAPER, band, coloured
from .video import animation_path

GAP = 2
PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def contact_sheet(
    dataset: Dataset, path: str | Path, *, episodes: int = 8, columns: int = 12, size: int = 64, obs: str | None = None
) -> Path:
    """Write a picture with a line for each of some episodes, evenly chosen, and return its path.

    A line is ``columns`` rows from the first to the last, each ``size`` pixels wide; an observation that is no image is
    a strip: a line for each number, from its lowest (dark) to its highest. ``obs`` names the observation.

    Raises:
        ConfigurationError: there is no such observation, ``path`` is of no kind that pictures are of, or pillow is
            missing. DatasetError: the data is damaged. OSError: the disk is full, say; no half picture is left.
    """
    name, path = _observation(dataset, obs), expanded(path)
    if path.suffix.lower() not in PICTURES:
        raise ConfigurationError(f"a picture is written as {' or '.join(PICTURES)}, got {path.name!r}")
    lines = []
    for index in _chosen(dataset, episodes):
        shown, length = dataset.column(f"obs/{name}", index), int(dataset.episodes.lengths[index])
        picture = _filmstrip(shown, columns, size) if _is_image(shown) else _strip(shown, columns * (size + GAP))
        lines.append(
            np.concatenate([band(picture.shape[1], [[_words(dataset, index, length)]], ink=INK, paper=PAPER), picture])
        )
    return _saved(require_viz("PIL.Image", "writing a picture").fromarray(np.concatenate(lines)), path)


def episode_animation(
    dataset: Dataset,
    path: str | Path,
    *,
    episodes: int = 4,
    most: int = 200,
    size: int = 128,
    obs: str | None = None,
    milliseconds: int = 80,
) -> Path:
    """Write some episodes side by side as a GIF or WebP, a frame per row, ``most`` at most, and return its path.

    An episode that is over shows its last row. A vector is a strip that grows. Raises as :func:`contact_sheet`.
    """
    name, path = _observation(dataset, obs), animation_path(path)
    chosen = [dataset.column(f"obs/{name}", index)[:most] for index in _chosen(dataset, episodes)]
    image = require_viz("PIL.Image", "writing an animation")
    frames = []
    for t in range(max(map(len, chosen))):
        tiles = [_tile(shown, min(t, len(shown) - 1), size) for shown in chosen]
        frames.append(
            image.fromarray(
                np.concatenate([np.pad(x, ((0, 0), (0, GAP), (0, 0)), constant_values=255) for x in tiles], 1)
            )
        )
    options: dict[str, Any] = {"lossless": True} if path.suffix.lower() == ".webp" else {"optimize": True}
    return _saved(frames[0], path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, **options)


def _saved(picture: Any, path: Path, **options: Any) -> Path:
    """Write a picture whole or not at all, in the kind that its path says."""
    with replacing(path) as (stage,):
        picture.save(stage, PICTURES.get(path.suffix.lower(), "GIF"), **options)
    return path


def _observation(dataset: Dataset, asked: str | None) -> str:
    """The observation that is shown: the one asked for, else the first image, else the first."""
    names = list(dataset.obs_spec)
    if asked is not None and asked not in names:
        raise ConfigurationError(f"there is no observation {asked!r}, only {', '.join(names)}")
    images = [name for name in names if len(dataset.obs_spec[name].shape) == 3]
    return asked or (images or names)[0]


def _chosen(dataset: Dataset, count: int) -> list[int]:
    table = len(dataset.episodes)
    return [int(i) for i in np.unique(np.linspace(0, table - 1, min(count, table)).round())]


def _words(dataset: Dataset, index: int, length: int) -> str:
    end = "ended" if dataset.episodes.terminal[index] else "cut"
    paid = f", return {dataset.column('reward', index).sum():.4g}" if dataset.has_rewards else ""
    return f"{dataset.episodes.ids[index]}: {counted(length, 'row')}, {end}{paid}"


def _is_image(shown: np.ndarray) -> bool:
    return shown.ndim == 4


def _filmstrip(shown: np.ndarray, columns: int, size: int) -> np.ndarray:
    """Rows ``[T, C, H, W]`` as pictures side by side, ``[size, width, 3]``."""
    rows = np.linspace(0, len(shown) - 1, columns).round().astype(int)
    tiles = [np.pad(_picture(shown[row], size), ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for row in rows]
    return np.concatenate(tiles, 1)


def _picture(image: np.ndarray, size: int) -> np.ndarray:
    """An image ``[C, H, W]``, the newest of a stack, as ``[size, size, 3]`` uint8."""
    channels = image[-3:] if image.shape[0] % 3 == 0 else np.repeat(image[-1:], 3, 0)
    if channels.dtype != np.uint8:
        channels = np.clip(channels * (255 if channels.max() <= 1 else 1), 0, 255).astype(np.uint8)
    pillow = require_viz("PIL.Image", "writing a picture")
    return np.asarray(pillow.fromarray(np.ascontiguousarray(channels.transpose(1, 2, 0))).resize((size, size), 0))


def _tile(shown: np.ndarray, t: int, size: int) -> np.ndarray:
    return _picture(shown[t], size) if _is_image(shown) else _strip(shown, size, now=t)


def _strip(shown: np.ndarray, width: int, *, now: int | None = None) -> np.ndarray:
    values = shown.reshape(len(shown), -1).astype(np.float64)
    low = values.min(0)
    shares = (values - low) / np.maximum(values.max(0) - low, 1e-12)
    return coloured(shares, len(shares) if now is None else now, width)
