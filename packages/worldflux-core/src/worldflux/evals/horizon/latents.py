"""Whether imagined latents are those that seeing the same rows would have given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..statistics import Sums, mean_of, ratio, share_saved


def agreement(imagined: np.ndarray, encoded: np.ndarray, known: np.ndarray) -> dict[str, Sums]:
    """Sums for ``cosine`` and ``mse`` of latents ``[B, H, D]`` that were imagined, against those encoded.

    ``mse`` is divided by the variance of the encoded ones over sequences, so that 1 is as far as their mean is. Where
    the encoder makes the same of everything there is none: what does not vary cannot be predicted well.
    """
    imagined, encoded = imagined.astype(np.float64), encoded.astype(np.float64)
    lengths = np.linalg.norm(imagined, axis=-1) * np.linalg.norm(encoded, axis=-1)
    defined = known & (lengths > 0)
    cosine = (imagined * encoded).sum(-1) / np.where(lengths > 0, lengths, 1)
    weight = known.astype(np.float64)[..., None]
    mean = (encoded * weight).sum(0) / np.maximum(weight.sum(0), 1)
    variance = (np.square(encoded - mean) * weight).sum(-1)
    scale = np.square(encoded * weight).sum() / max(weight.sum(), 1)
    if variance.sum() <= 1e-9 * max(scale, 1e-12) * weight.sum():
        return {"cosine": mean_of(cosine, defined)}
    error = (np.square(imagined - encoded) * weight).sum(-1)
    return {"cosine": mean_of(cosine, defined), "mse": Sums(np.stack([error, variance]), ratio)}


def compared_errors(errors: Mapping[str, Sums]) -> dict[str, Sums]:
    """Sums for ``skill``, 1 less the model's error over copy-last's, and ``action_sensitivity``, the error with other
    actions over the model's own: of squared errors by source, as far as they are there."""
    own, found = errors.get("model"), dict[str, Sums]()
    if own is None:
        return found
    if (copied := errors.get("copy_last")) is not None:
        found["skill"] = Sums(np.stack([own.values[0], copied.values[0]]), share_saved)
    if (shuffled := errors.get("shuffled_actions")) is not None:
        found["action_sensitivity"] = Sums(np.stack([shuffled.values[0], own.values[0]]), ratio)
    return found
