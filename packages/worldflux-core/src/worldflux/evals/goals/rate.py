"""How often something succeeds, and how sure that is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..bootstrap import Number

Z = 1.959963984540054  # standard deviations that hold 95 % of a normal distribution


def wilson(successes: int, tries: int) -> Number:
    """Return the share of successes with its 95 % Wilson interval; NaN without tries.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if not tries:
        return Number(math.nan)
    share, spread = successes / tries, Z**2 / tries
    middle = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / tries + spread / (4 * tries)) / (1 + spread)
    return Number(share, max(0.0, middle - half), min(1.0, middle + half))


def rate(solved: np.ndarray) -> dict[str, Any]:
    """Return how many episodes ``solved [N]`` bool were, as a share with its interval and both counts."""
    count, tries = int(np.sum(solved)), len(solved)
    return {**wilson(count, tries).to_dict(), "solved": count, "episodes": tries}
