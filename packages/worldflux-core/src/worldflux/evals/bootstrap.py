"""How sure a number is: intervals over episodes, and over runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError

from .statistics import Sums

RESAMPLES, LEVEL = 1000, 0.95


@dataclass(frozen=True)
class Number:
    """A number with the interval that holds it in 95 % of resamples; without one where too few of these define it."""

    value: float
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, float]:
        """Return ``value``, and ``low`` and ``high`` where they are known."""
        found = {"value": self.value, "low": self.low, "high": self.high}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class Curve:
    """A number for each horizon where it is defined, and their mean."""

    horizon: tuple[int, ...]
    points: tuple[Number, ...]
    mean: Number

    def to_dict(self) -> dict[str, Any]:
        """Return lists ``horizon``, ``value``, and ``low`` and ``high`` where known; and the ``mean``."""
        found: dict[str, Any] = {"horizon": list(self.horizon), "value": [point.value for point in self.points]}
        if all(point.low is not None for point in self.points):
            found |= {"low": [point.low for point in self.points], "high": [point.high for point in self.points]}
        return {**found, "mean": self.mean.to_dict()}


class Resampler:
    """Draws episodes with replacement; what is asked of one resampler is asked of the same draws, so it can be paired.

    ``episodes [B]`` says to which episode a sequence belongs: sequences of one are drawn together.
    """

    def __init__(self, episodes: np.ndarray, *, seed: int, resamples: int = RESAMPLES) -> None:
        _, self._group = np.unique(episodes, return_inverse=True)
        self.episodes = int(self._group.max(initial=-1)) + 1
        rng = np.random.default_rng(seed)
        shares = np.full(self.episodes, 1 / max(self.episodes, 1))
        self._counts = rng.multinomial(self.episodes, shares, size=resamples).astype(np.float64)  # [R, E]

    def curve(self, sums: Sums) -> Curve | None:
        """Return the statistic at every horizon where it is defined; None where there is none."""
        value, drawn = self._statistics(sums)
        here = np.flatnonzero(np.isfinite(value))
        if not len(here):
            return None
        points = tuple(self._number(float(value[h]), drawn[:, h]) for h in here)
        horizon = tuple(int(h) + sums.first for h in here)
        return Curve(horizon, points, self._number(float(value[here].mean()), _means(drawn[:, here])))

    def difference(self, one: Sums, other: Sums) -> Number | None:
        """Return the mean over horizons of what ``one`` has more than ``other``, on the same resamples."""
        (value, drawn), (base, redrawn) = self._statistics(one), self._statistics(other)
        both = np.isfinite(value) & np.isfinite(base)
        if not both.any():
            return None
        more = (drawn - redrawn)[:, both]
        return self._number(float((value - base)[both].mean()), _means(more))

    def _statistics(self, sums: Sums) -> tuple[np.ndarray, np.ndarray]:
        """The statistic ``[H]`` of all sequences, and ``[R, H]`` of the resamples."""
        kinds, _, width = sums.values.shape
        grouped = np.zeros((kinds, self.episodes, width))
        for kind in range(kinds):
            np.add.at(grouped[kind], self._group, sums.values[kind])
        return sums.statistic(grouped.sum(1)), sums.statistic(self._counts @ grouped)

    def _number(self, value: float, drawn: np.ndarray) -> Number:
        known = drawn[np.isfinite(drawn)]
        if self.episodes < 2 or len(known) < len(self._counts) * (1 + LEVEL) / 2:  # an end may lie among the others
            return Number(value)
        return Number(value, *_ends(known))


def iqm(values: np.ndarray) -> float:
    """Return the mean of the middle half of ``values``: a quarter of them, rounded down, is cut off each end.

    Source: Agarwal et al. 2021, §4.3 (the 25 % trimmed mean).
    """
    return float(_iqms(np.asarray(values, np.float64).reshape(1, -1))[0])


def iqm_interval(strata: Sequence[np.ndarray], *, seed: int = 0, resamples: int = 2000) -> Number:
    """Return the IQM of all values, with the interval over runs drawn again within each stratum (each data set).

    Raises ConfigurationError where there is no value.
    """
    if not strata or not all(len(values) for values in strata):
        raise ConfigurationError("an interquartile mean needs at least one value of every data set")
    everything = np.concatenate([np.asarray(values, np.float64) for values in strata])
    if max(map(len, strata)) < 2:
        return Number(iqm(everything))
    rng = np.random.default_rng(seed)
    drawn = [np.asarray(v, np.float64)[rng.integers(len(v), size=(resamples, len(v)))] for v in strata]
    return Number(iqm(everything), *_ends(_iqms(np.concatenate(drawn, 1))))


def _iqms(values: np.ndarray) -> np.ndarray:
    """The interquartile means ``[R]`` of rows ``[R, N]``."""
    cut = values.shape[1] // 4
    return np.asarray(np.sort(values, 1)[:, cut : values.shape[1] - cut].mean(1))


def _means(drawn: np.ndarray) -> np.ndarray:
    known = np.isfinite(drawn)
    count = known.sum(1)
    return np.asarray(np.where(known, drawn, 0).sum(1)[count > 0] / count[count > 0])


def _ends(drawn: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
