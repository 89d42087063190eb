"""Whether a representation tells rows apart: how much of its latents varies, in how many directions, and when.

Letters: B sequences, T rows of each, D numbers of a row's latent.
Source: Garrido et al. 2023 (RankMe), arXiv 2210.02885.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

DEAD = 0.1  # a dimension whose standard deviation is below it tells next to nothing
ROUNDING = 1e-6  # of the latents' size: less than float32 keeps


@dataclass(frozen=True)
class CollapseLimits:
    """Below what a representation counts as collapsed: mean ``std``; both ranks, ``rankme`` and ``participation``, as a
    world of two numbers needs no more than two directions; ``within_ratio``."""

    std: float = 0.05
    rankme: float = 3.0
    participation: float = 1.3
    within_ratio: float = 0.1


@dataclass(frozen=True)
class Collapse:
    """What :func:`collapse_measures` found: by name the numbers ``by_step [T]`` and ``pooled``; a measure that is
    undefined is in neither. ``within_ratio`` is None where nothing varies, or there is one row."""

    by_step: Mapping[str, np.ndarray]
    pooled: Mapping[str, float]
    within_ratio: float | None
    latent_dim: int

    def numbers(self) -> dict[str, float]:
        """Return the means over steps, ``pooled/NAME`` and ``within_ratio``, as far as they are defined."""
        found = {name: float(values.mean()) for name, values in self.by_step.items()}
        found |= {f"pooled/{name}": value for name, value in self.pooled.items()}
        return found if self.within_ratio is None else {**found, "within_ratio": self.within_ratio}

    def alarms(self, limits: CollapseLimits | None = None) -> list[str]:
        """Return in words what is below its limit. Of a latent of few numbers half of them is rank enough."""
        limits, numbers, said = limits or CollapseLimits(), self.numbers(), []
        if (std := numbers["std"]) < limits.std:
            said.append(f"its numbers hardly vary over the batch: their deviation is {std:.3g}, below {limits.std:.3g}")
        least, rank = min(limits.rankme, self.latent_dim / 2), numbers["rankme"]
        if rank < least and numbers["participation"] < limits.participation:
            said.append(
                f"it varies in few directions: its effective rank is {rank:.3g}, below {least:.3g} (participation "
                f"ratio {numbers['participation']:.3g}, below {limits.participation:.3g})"
            )
        if self.within_ratio is not None and self.within_ratio < limits.within_ratio:
            said.append(
                f"it hardly changes within an episode: its deviation there is {self.within_ratio:.3g} of that of all, "
                f"below {limits.within_ratio:.3g}"
            )
        return said


def representation_of(model: Any) -> tuple[str, ...]:
    """Return the tensors of a state that a model calls its ``representation``: those that must not collapse."""
    return tuple(getattr(model, "representation", ()))


def collapse_measures(latents: np.ndarray) -> Collapse:
    """Measure latents ``[B, T, D]`` of 2 sequences or more: each row over the sequences, and all rows pooled.

    ``std`` the mean standard deviation of a dimension, ``std_min`` the least, ``dead`` the share of those below 0.1;
    ``rankme`` and ``participation`` effective ranks, from 0 (nothing varies) to D; ``cosine`` the mean of two different
    rows; ``mean_norm`` the length of the mean. ``within_ratio`` is the deviation within a sequence over that of all.
    """
    latents = np.asarray(latents, np.float64)
    assert latents.ndim == 3 and len(latents) > 1, f"latents are [B, T, D] of 2 sequences or more: {latents.shape}"
    steps = [_of_rows(latents[:, t]) for t in range(latents.shape[1])]
    shared = set.intersection(*map(set, steps))
    by_step = {name: np.array([step[name] for step in steps]) for name in steps[0] if name in shared}
    pooled = _of_rows(latents.reshape(-1, latents.shape[-1]))
    return Collapse(by_step, pooled, _within_ratio(latents), latents.shape[-1])


def _of_rows(rows: np.ndarray) -> dict[str, float]:
    """The measures of rows ``[B, D]``."""
    count, mean = len(rows), rows.mean(0)
    centred = rows - mean
    deviation = np.sqrt(np.square(centred).sum(0) / (count - 1))
    found = {"std": deviation.mean(), "std_min": deviation.min(), "dead": (deviation < DEAD).mean()}
    found["rankme"], found["participation"] = _ranks(centred, size=float(np.linalg.norm(rows)))
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if (lengths > 0).all():
        found["cosine"] = (np.square((rows / lengths).sum(0)).sum() - count) / (count * (count - 1))
    found["mean_norm"] = np.linalg.norm(mean)
    return {name: float(value) for name, value in found.items()}


def _ranks(centred: np.ndarray, *, size: float) -> tuple[float, float]:
    """RankMe and the participation ratio of rows ``[B, D]`` of so large a norm before they were centred."""
    smaller = centred if len(centred) <= centred.shape[1] else centred.T
    variances = np.linalg.eigvalsh(smaller @ smaller.T).clip(min=0)
    variances = variances[np.sqrt(variances) > ROUNDING * size]
    if not len(variances):
        return 0.0, 0.0
    share = np.sqrt(variances) / np.sqrt(variances).sum()
    return float(np.exp(-(share * np.log(share)).sum())), float(variances.sum() ** 2 / np.square(variances).sum())


def _within_ratio(latents: np.ndarray) -> float | None:
    if latents.shape[1] < 2:
        return None
    across = latents.var(0, ddof=1).mean()
    if across <= (ROUNDING * np.abs(latents).max()) ** 2:
        return None
    return float(np.sqrt(latents.var(1, ddof=1).mean() / across))
