"""How far predicted observations are from what was shown, sequence by sequence and horizon by horizon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from .metrics import Similarity, psnr, similar_enough
from .statistics import Sums, ratio

CHANGED = 4 / 255
"""A pixel counts as changed when a channel moved by more than this since the last context frame (of [0, 1])."""
MOST_PSNR = 100.0  # dB that an image predicted exactly counts as; the true number is infinite

Predicted = Iterator[dict[str, np.ndarray]]  # for each horizon what is predicted, by name [B, ...]
Scores = dict[str, dict[str, Sums]]  # measure -> source -> sums


class ObservationScores:
    """Collects errors of one modality: ``mse``, and for images ``psnr``, ``ssim`` and the three on what moved.

    ``truth`` ``[B, H, ...]`` and the last context row ``[B, ...]`` are floats, ``shown`` ``[B, H]`` says which rows'
    observations are real; those of the others count nowhere.
    """

    def __init__(self, truth: np.ndarray, last: np.ndarray, shown: np.ndarray) -> None:
        self.truth, self.last, self.shown = truth, last, shown
        self.is_image = truth.ndim >= 5
        self._sums: dict[str, dict[str, np.ndarray]] = {}

    def step(self, h: int, predictions: Mapping[str, np.ndarray]) -> None:
        """Add what each source predicts ``[B, ...]`` at horizon ``h + 1``."""
        if not self.is_image:
            for source, values in predictions.items():
                error = np.square(values - self.truth[:, h]).reshape(len(values), -1)
                self._add("mse", source, h, error.mean(1), 1.0)
            return
        truth, last = _images(self.truth[:, h]), _images(self.last)
        moved = (np.abs(truth - last) > CHANGED).any(1, keepdims=True)  # [B, 1, H, W]
        similarity = Similarity(truth) if similar_enough(truth.shape) else None
        for source, values in predictions.items():
            self._images(h, source, _images(values), truth, moved, similarity)

    def sums(self) -> Scores:
        """Return what was collected."""
        return {m: {s: Sums(v, ratio) for s, v in sources.items()} for m, sources in self._sums.items()}

    def _images(
        self, h: int, source: str, values: np.ndarray, truth: np.ndarray, moved: np.ndarray, like: Similarity | None
    ) -> None:
        error, channels = np.square(values - truth), truth.shape[1]
        count = moved.sum((1, 2, 3)).astype(np.float64)
        any_moved = (count > 0).astype(np.float64)
        own = error.reshape(len(error), -1).mean(1)
        apart = (error * moved).sum((1, 2, 3))
        self._add("mse", source, h, own, 1.0)
        self._add("psnr", source, h, np.minimum(psnr(own), MOST_PSNR), 1.0)
        self._add("moved_mse", source, h, apart, count * channels)
        at_moved = np.minimum(psnr(apart / np.maximum(count * channels, 1)), MOST_PSNR)
        self._add("moved_psnr", source, h, at_moved * any_moved, any_moved)
        if like is not None:
            found = like.map(values)
            self._add("ssim", source, h, found.reshape(len(found), -1).mean(1), 1.0)
            self._add("moved_ssim", source, h, (found * moved).sum((1, 2, 3)), count * channels)

    def _add(self, measure: str, source: str, h: int, value: np.ndarray, weight: np.ndarray | float) -> None:
        """Numerators and weights of one horizon."""
        sources = self._sums.setdefault(measure, {})
        if source not in sources:
            sources[source] = np.zeros((2, *self.shown.shape))
        sources[source][:, :, h] = np.stack([value, np.broadcast_to(weight, value.shape)]) * self.shown[:, h]


def joined(parts: list[Scores]) -> Scores:
    """Return the scores of all sequences from those of some at a time."""
    return {
        measure: {
            source: Sums(np.concatenate([part[measure][source].values for part in parts], 1), sums.statistic)
            for source, sums in sources.items()
        }
        for measure, sources in parts[0].items()
    }


def _images(values: np.ndarray) -> np.ndarray:
    """Images or clips ``[B, ..., H, W]`` as ``[B, C, H, W]``."""
    return values.reshape(len(values), -1, *values.shape[-2:])
