"""What every reader does to what it finds: shapes, bounds, shifts in time, and numbers that are none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError, did_you_mean

from ..recording import EpisodeTable, damaged


def arrival(rewards: np.ndarray) -> np.ndarray:
    """Return rewards ``[T]`` paid after the action of their row as ``[T + 1]`` on arriving, 0 in the first row."""
    return np.concatenate([np.zeros(1, np.float32), np.asarray(rewards, np.float32)])


def padded(rows: np.ndarray, *, value: float = 0) -> np.ndarray:
    """Return ``[T, ...]`` with one row more, which nobody took: the action of an episode's last row."""
    return np.concatenate([rows, np.full((1, *rows.shape[1:]), value, rows.dtype)])


def one_hot(indices: np.ndarray, size: int, *, first: int = 0) -> np.ndarray:
    """Return whole numbers ``first .. first + size - 1`` as float32 one-hot vectors ``[..., size]``.

    The caller has checked their range.
    """
    out = np.zeros((*np.shape(indices), size), np.float32)
    np.put_along_axis(out, np.asarray(indices, np.int64)[..., None] - first, 1, axis=-1)
    return out


def unit_actions(actions: np.ndarray, low: Any, high: Any) -> np.ndarray:
    """Return continuous actions in [-1, 1], as an environment with these bounds takes them from a model; float32.

    Components without finite bounds stay as they are.
    """
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    bounded = np.isfinite(low) & np.isfinite(high) & (low < high)
    low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
    if (low == -1).all() and (high == 1).all():
        return np.asarray(actions, np.float32)
    return (2 * (np.asarray(actions, np.float64) - low) / (high - low) - 1).astype(np.float32)


def channels_first(images: np.ndarray) -> np.ndarray:
    """Return images ``[..., H, W, C]`` or ``[..., H, W]`` as ``[..., C, H, W]``; those that are already so stay so.

    The channels (1, 3 or 4) are the last axis, unless only the first of the three can be.
    """
    if images.ndim >= 3 and images.shape[-1] in (1, 3, 4):
        return np.moveaxis(images, -1, -3)
    if images.ndim >= 3 and images.shape[-3] in (1, 3, 4):
        return images
    return images[..., None, :, :]


def check_finite(name: str, values: np.ndarray, episodes: EpisodeTable, file: Any) -> None:
    """Raise DatasetError naming file, episode and row of the first number in ``[rows, ...]`` that is none.

    ``file`` is a path, or a function of the episode's place that gives one.
    """
    if values.dtype.kind not in "fc" or np.isfinite(values).all():
        return
    row = int(np.argmin(np.isfinite(values).reshape(len(values), -1).all(axis=1)))
    episode = int(np.searchsorted(np.cumsum(episodes.lengths), row, side="right"))
    bad = values[row][~np.isfinite(values[row])].flat[0] if values.ndim > 1 else values[row]
    place: str | Path = file(episode) if callable(file) else file
    raise damaged(
        place, f"{name} is {bad}", episode=episode, row=row - int(episodes.offsets[episode]),
        way_out="nothing was read: find out why, or leave the episode out where the data is made",
    )  # fmt: skip


def refuse_unknown(format: str, options: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise ConfigurationError for an option that a format's ``open`` does not know, with the nearest that it does."""
    known = list(known)
    for name in options:
        if name not in known:
            has = f"has {', '.join(known)}" if known else "has none"
            raise ConfigurationError(
                f"the format {format!r} has no option {name!r}, it {has}.{did_you_mean(name, known)}"
            )
