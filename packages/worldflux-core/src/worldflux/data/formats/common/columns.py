"""Columns of rows: their specs, what is worth keeping beside them, and numbers that are none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError, did_you_mean
from worldflux.core.spec import ModalityKind, ModalitySpec

from ...recording import EpisodeTable, damaged

WAY_OUT = "nothing was read: find out why, or leave the episode out where the data is made"


def vector_spec(name: str, rows: np.ndarray) -> ModalitySpec:
    """Return the spec of a column of numbers ``[rows, ...]``."""
    return ModalitySpec(ModalityKind.VECTOR, rows.shape[1:], str(rows.dtype), None, name)


def vectors(values: np.ndarray) -> np.ndarray:
    """Return rows ``[n, ...]`` of numbers as float32 ``[n, D]``; what is too large becomes infinite, to be refused."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values.reshape(len(values), -1), np.float32)


def info_column(values: np.ndarray) -> np.ndarray | None:
    """Return what else rows hold as float32 or int64; None for what is no number, is empty, or too big to keep."""
    if values.dtype.kind not in "biuf" or not values.size or values[0].nbytes > 1 << 14:
        return None
    with np.errstate(over="ignore"):
        return values.astype(np.float32 if values.dtype.kind in "fb" else np.int64)


def there(place: object, option: str, name: Any, names: Sequence[str]) -> str:
    """Return the name of a column that an option gives. Raises ConfigurationError, naming those that there are."""
    if not isinstance(name, str) or name not in names:
        raise ConfigurationError(
            f"{option}={name!r}: {place} has no such column, it has {', '.join(names) or 'none'}."
            f"{did_you_mean(str(name), names)}"
        )
    return name


def picked(place: object, option: str, given: Any, names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that an option names, one or several; all where it is None. Raises ConfigurationError."""
    if given is None:
        return tuple(names)
    return tuple(there(place, option, name, names) for name in ([given] if isinstance(given, str) else given))


def first_odd(values: np.ndarray, stored: np.ndarray | None = None) -> tuple[int, Any] | None:
    """Return the row and the value of the first number in ``[rows, ...]`` that is none, None where all are.

    ``stored`` holds the same numbers as the file does, if those are to be named.
    """
    if values.dtype.kind not in "fc" or np.isfinite(values).all():
        return None
    row = int(np.argmin(np.isfinite(values).reshape(len(values), -1).all(axis=1)))
    odd = ~np.isfinite(np.ravel(values[row]))
    return row, np.ravel((values if stored is None else stored)[row])[odd][0]


def check_finite(name: str, values: np.ndarray, episodes: EpisodeTable, file: Any) -> None:
    """Raise DatasetError naming file, episode and row of the first number in ``[rows, ...]`` that is none.

    ``file`` is a path, or a function of the episode's place that gives one.
    """
    if (odd := first_odd(values)) is None:
        return
    row, bad = odd
    episode = int(np.searchsorted(np.cumsum(episodes.lengths), row, side="right"))
    place: str | Path = file(episode) if callable(file) else file
    raise damaged(place, f"{name} is {bad}", episode=episode, row=row - int(episodes.offsets[episode]), way_out=WAY_OUT)
