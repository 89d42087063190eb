"""How far a prediction is from what happened: MSE, PSNR and SSIM of each row, as the field computes them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

SIGMA, RADIUS = 1.5, 5  # of the Gaussian window of SSIM: 11 pixels wide
K1, K2 = 0.01, 0.03


def mse(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the mean squared error ``[B]`` of predictions ``[B, ...]``."""
    error = np.square(np.asarray(prediction, np.float64) - truth)
    return np.asarray(error.reshape(len(error), -1).mean(1))


def psnr(error: np.ndarray | float, *, data_range: float = 1.0) -> np.ndarray:
    """Return the peak signal-to-noise ratio in dB of a mean squared error, of any shape; infinite where it is 0."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(data_range**2 / np.asarray(error, np.float64))


def ssim(prediction: np.ndarray, truth: np.ndarray, *, data_range: float = 1.0) -> np.ndarray:
    """Return the structural similarity ``[B]`` of images ``[B, C, H, W]``: 1 is the same image.

    The mean of :meth:`Similarity.map` over channels and pixels, the padded border included, as torchmetrics has it.
    """
    found = Similarity(truth, data_range=data_range).map(prediction)
    return np.asarray(found.reshape(len(found), -1).mean(1))


class Similarity:
    """The structural similarity of any images to the same true ones ``[B, C, H, W]``, which are filtered once.

    A Gaussian window of 11 pixels (sigma 1.5) over images padded by reflection. Source: Wang et al. 2004, eq. 13.
    Raises ValueError for images of fewer than 6 pixels on a side, which cannot be padded so.
    """

    def __init__(self, truth: np.ndarray, *, data_range: float = 1.0) -> None:
        self.truth = np.asarray(truth, np.float64)
        self._floors = (K1 * data_range) ** 2, (K2 * data_range) ** 2
        self._mean = _filtered(self.truth)
        self._power = _filtered(np.square(self.truth))

    def map(self, prediction: np.ndarray) -> np.ndarray:
        """Return the similarity around every pixel, ``[B, C, H, W]``."""
        images, (low, high) = np.asarray(prediction, np.float64), self._floors
        mean, power, product = _filtered(images), _filtered(np.square(images)), _filtered(images * self.truth)
        own, true = np.maximum(power - mean**2, 0), np.maximum(self._power - self._mean**2, 0)
        both = product - mean * self._mean
        light = (2 * mean * self._mean + low) / (mean**2 + self._mean**2 + low)
        return np.asarray(light * (2 * both + high) / (own + true + high))


def similar_enough(shape: tuple[int, ...]) -> bool:
    """Whether images ``[..., H, W]`` are large enough for SSIM."""
    return len(shape) >= 2 and min(shape[-2:]) > RADIUS


def _filtered(images: np.ndarray) -> np.ndarray:
    """Images ``[..., H, W]`` under the Gaussian window: one matrix for each axis, so that the work is all products."""
    return np.asarray(_window(images.shape[-2]) @ images @ _window(images.shape[-1]).T)


@lru_cache(maxsize=16)
def _window(size: int) -> np.ndarray:
    """The matrix ``[size, size]`` that filters an axis, reflection at its ends included."""
    if size <= RADIUS:
        raise ValueError(f"SSIM needs images of more than {RADIUS} pixels on a side, got {size}")
    offsets = np.arange(-RADIUS, RADIUS + 1)
    weights = np.exp(-np.square(offsets / SIGMA) / 2)
    weights /= weights.sum()
    matrix = np.zeros((size, size))
    for row in range(size):
        places = np.abs(row + offsets)  # reflected at the first pixel, which is not repeated
        places = np.where(places >= size, 2 * (size - 1) - places, places)
        np.add.at(matrix[row], places, weights)
    return matrix
