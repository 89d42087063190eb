"""Whether a chance that a model states is the share that comes true, and whether its draws spread as they err."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..statistics import Sums, mean_of, ranks_of, root_ratio

BINS = 10


def brier(chance: np.ndarray, happened: np.ndarray) -> Sums:
    """Sums for the Brier score of chances ``[B, H]``: the mean of their squared distance to 0 or 1."""
    return mean_of(np.square(chance - happened))


def calibration_error(chance: np.ndarray, happened: np.ndarray) -> Sums:
    """Sums for the expected calibration error over all horizons together: ten bins of equal width.

    The mean over predictions of how far their bin's mean chance is from the share that came true in it.
    Source: Guo et al. 2017, §2.
    """
    parts = []
    for here in _bins(chance):
        parts += [here.sum(1), (chance * here).sum(1), (happened * here).sum(1)]
    return Sums(np.stack(parts)[:, :, None].astype(np.float64), _expected_gap, 0)


def reliability(chance: np.ndarray, happened: np.ndarray) -> dict[str, list[Any]]:
    """Return of each bin that holds a prediction its mean chance ``stated``, the share that ``happened``, the count."""
    rows = [(chance[here], happened[here]) for here in _bins(chance) if here.any()]
    return {
        "stated": [float(c.mean()) for c, _ in rows],
        "happened": [float(y.mean()) for _, y in rows],
        "count": [len(c) for c, _ in rows],
    }


def spread_and_error(variance: np.ndarray, error: np.ndarray, draws: int, known: np.ndarray) -> dict[str, Sums]:
    """Sums for the spread of some draws beside the error of their mean, at each horizon.

    ``variance [B, H]`` is that among the draws, ``error [B, H]`` the squared error of their mean. ``spread`` and
    ``error`` are the roots of their means; ``ratio`` is the first over the second, corrected for the number of draws: 1
    where the spread is as large as the error, below where the model is too sure. ``rank_correlation`` tells whether
    sequences with more spread have more error. Source: Fortin et al. 2014, eq. 15.
    """
    weight = known.astype(np.float64)
    spread, missed = variance * weight, error * weight
    return {
        "spread": Sums(np.stack([spread, weight]), root_ratio),
        "error": Sums(np.stack([missed, weight]), root_ratio),
        "ratio": Sums(np.stack([spread * (draws + 1) / draws, missed]), root_ratio),
        "rank_correlation": ranks_of(variance, error, known),
    }


def _bins(chance: np.ndarray) -> list[np.ndarray]:
    place = np.clip((chance * BINS).astype(int), 0, BINS - 1)
    return [place == number for number in range(BINS)]


def _expected_gap(sums: np.ndarray) -> np.ndarray:
    count, stated, happened = (sums[i::3] for i in range(3))
    return np.asarray(np.abs(stated - happened).sum(0) / np.maximum(count.sum(0), 1))
