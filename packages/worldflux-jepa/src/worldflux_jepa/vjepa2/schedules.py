"""Learning rates and decays by the step, as the official program has them: plain functions for a scheduler of torch.

``step`` counts updates from 1. Behind ``total`` the formulas go on, so training should end there.
"""

from __future__ import annotations

import math


def warmup_cosine(step: int, *, warmup: int, start: float, peak: float, total: int, final: float) -> float:
    """A straight line from ``start`` to ``peak`` in ``warmup`` steps, then half a cosine down to ``final``."""
    if step < warmup:
        return linear(step, start=start, total=warmup, final=peak)
    return cosine(step - warmup, start=peak, total=total - warmup, final=final)


def cosine(step: int, *, start: float, total: int, final: float) -> float:
    """Half a cosine from ``start`` to ``final``; of weight decay upwards, too."""
    return final + (start - final) * 0.5 * (1 + math.cos(math.pi * step / total))


def linear(step: int, *, start: float, total: int, final: float) -> float:
    """A straight line from ``start`` to ``final``."""
    return start + step / total * (final - start)


def warmup_stable_decay(
    step: int, *, warmup: int, anneal: int, start: float, peak: float, total: int, final: float
) -> float:
    """A straight line up to ``peak``, which stays until ``anneal`` steps before the end; then straight to ``final``."""
    if step < warmup:
        return linear(step, start=start, total=warmup, final=peak)
    if step < total - anneal:
        return peak
    return linear(step - (total - anneal), start=peak, total=anneal, final=final)
