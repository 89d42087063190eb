"""Statistics that follow from sums over sequences, so that a resampled set of them needs no second look at the data.

``sums`` is ``[K, ..., H]``: K sums, any resamples, H horizons. What is undefined is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Sums:
    """What each of B sequences adds to a statistic at each horizon, ``values [K, B, H]``; the first is ``first``."""

    values: np.ndarray
    statistic: Statistic
    first: int = 1


def mean_of(values: np.ndarray, known: np.ndarray | None = None, *, first: int = 1) -> Sums:
    """Sums for the mean of values ``[B, H]``, over those that are ``known``."""
    weight = np.ones(values.shape) if known is None else known.astype(np.float64)
    return Sums(np.stack([np.where(weight > 0, values, 0.0) * weight, weight]), ratio, first)


def fit_of(prediction: np.ndarray, truth: np.ndarray, known: np.ndarray | None = None, *, first: int = 1) -> Sums:
    """Sums for R² of predictions ``[B, H]`` or ``[B, H, D]``."""
    prediction, truth = (np.asarray(x, np.float64).reshape(*x.shape[:2], -1) for x in (prediction, truth))
    weight = np.ones(truth.shape[:2]) if known is None else known.astype(np.float64)
    w = weight[..., None]
    parts = (truth * w, truth**2 * w, np.square(prediction - truth) * w)
    stacked = np.concatenate([np.moveaxis(part, -1, 0) for part in parts])
    return Sums(np.concatenate([weight[None], stacked]), explained, first)


def ranks_of(left: np.ndarray, right: np.ndarray, known: np.ndarray | None = None, *, first: int = 1) -> Sums:
    """Sums for the rank correlation over sequences of two arrays ``[B, H]``; ranks are those in the whole sample."""
    known = np.ones(left.shape, bool) if known is None else known
    x, y = _ranks(left, known), _ranks(right, known)
    parts = (np.ones(x.shape), x, y, x * x, y * y, x * y)
    return Sums(np.stack([part * known for part in parts]), correlation, first)


def ratio(sums: np.ndarray) -> np.ndarray:
    """The first sum over the second."""
    return _divided(sums[0], sums[1])


def share_saved(sums: np.ndarray) -> np.ndarray:
    """1 less the first sum over the second: 1 is no error, 0 as much as the other's."""
    return 1 - ratio(sums)


def root_ratio(sums: np.ndarray) -> np.ndarray:
    """The root of the first sum over the second."""
    return np.sqrt(ratio(sums))


def explained(sums: np.ndarray) -> np.ndarray:
    """R² of sums 1, y, y², e² (the last three for each of D numbers), the mean over numbers that vary.

    1 is perfect, 0 as good as the mean of what happened.
    """
    count, (y, yy, ee) = sums[0], np.split(sums[1:], 3)
    spread = yy - _divided(y * y, np.broadcast_to(count, y.shape))
    varies = spread > 1e-9 * np.maximum(yy, 1e-12)
    each = np.where(varies, 1 - _divided(ee, np.where(varies, spread, 1.0)), 0.0)
    return _divided(each.sum(0), varies.sum(0).astype(np.float64))


def correlation(sums: np.ndarray) -> np.ndarray:
    """The correlation of sums 1, x, y, x², y², xy: from -1 to 1, undefined where one of the two does not vary."""
    n, x, y, xx, yy, xy = sums
    one, other = n * xx - x * x, n * yy - y * y
    varies = (one > 1e-9 * np.maximum(n * xx, 1e-12)) & (other > 1e-9 * np.maximum(n * yy, 1e-12))
    return np.where(varies, (n * xy - x * y) / np.sqrt(np.where(varies, one * other, 1.0)), np.nan)


def _ranks(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Ranks ``[B, H]`` over B among the known, about their middle; equal values share theirs."""
    found = np.zeros(values.shape)
    for h in range(values.shape[1]):
        own = known[:, h]
        _, place, counts = np.unique(values[own, h], return_inverse=True, return_counts=True)
        found[own, h] = (np.cumsum(counts) - (counts + 1) / 2)[place] - (own.sum() - 1) / 2
    return found


def _divided(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
