"""What a linear map reads out of a latent: ridge regressions judged on other episodes than they were fitted on."""

from __future__ import annotations

import numpy as np

FOLDS = 4
RIDGE = 1e-3  # of the number of rows, on features of unit variance
MOST_ROWS = 2048  # that a probe is fitted on


def read_out(
    fitted_on: np.ndarray, targets: np.ndarray, known: np.ndarray, episodes: np.ndarray, judged: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return what probes of ``targets`` read out of other latents: for each of ``judged`` ``[B, H, D]`` ``[B, H, S]``.

    A probe is fitted on encoded latents ``fitted_on [B, H, D]`` of three quarters of the episodes and read on the
    others, in turn. Rows that are not ``known [B, H]`` are left out of the fit. ``episodes [B]`` are at least two.
    """
    names, group = np.unique(episodes, return_inverse=True)
    folds = group % min(FOLDS, len(names))
    found = {name: np.zeros(targets.shape) for name in judged}
    for fold in range(folds.max() + 1):
        probe = Ridge(_rows(fitted_on, known, folds != fold), _rows(targets, known, folds != fold))
        for name, latents in judged.items():
            found[name][folds == fold] = probe(latents[folds == fold])
    return found


class Ridge:
    """A linear map from features to targets, which are brought to mean 0 and variance 1 first."""

    def __init__(self, features: np.ndarray, targets: np.ndarray) -> None:
        every = -(-len(features) // MOST_ROWS)
        features, targets = features[::every].astype(np.float64), targets[::every].astype(np.float64)
        self._mean, self._target_mean = features.mean(0), targets.mean(0)
        deviation = features.std(0)
        self._scale = np.where(deviation > 1e-8, 1 / np.maximum(deviation, 1e-8), 0.0)
        x, y = (features - self._mean) * self._scale, targets - self._target_mean
        rows, width = x.shape
        if width <= rows:
            self._weights = np.linalg.solve(x.T @ x + RIDGE * rows * np.eye(width), x.T @ y)
        else:  # the same map through the products of rows, of which there are fewer
            self._weights = x.T @ np.linalg.solve(x @ x.T + RIDGE * rows * np.eye(rows), y)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return np.asarray((features - self._mean) * self._scale @ self._weights + self._target_mean)

    def map(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the same as weights ``[D, S]`` and a bias ``[S]``."""
        weights = self._scale[:, None] * self._weights
        return weights, self._target_mean - self._mean @ weights


def _rows(values: np.ndarray, known: np.ndarray, which: np.ndarray) -> np.ndarray:
    """The known rows ``[N, D]`` of some sequences of ``[B, H, D]``."""
    return values[which][known[which]]
