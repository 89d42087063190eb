"""What -1 and 1 of an action stand for: the bounds of the environment that it was taken in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.envs.spaces import ActionAdapter

SLACK = 1e-3  # of the span: a difference that changes no action by more
Named = tuple[str, "ActionBounds | None"]  # whose bounds they are, in words


@dataclass(frozen=True)
class ActionBounds:
    """The numbers ``[A]`` that -1 and 1 stand for in an environment's units; None for classes, and where unknown.

    Raises ValueError unless both sides are as long, and each known pair is finite and in order.
    """

    low: tuple[float | None, ...]
    high: tuple[float | None, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", tuple(self.low))
        object.__setattr__(self, "high", tuple(self.high))
        if len(self.low) != len(self.high):
            raise ValueError(f"action bounds have {len(self.low)} lows and {len(self.high)} highs")
        for low, high in self._pairs():
            if low is None and high is None:
                continue
            if not all(type(one) in (int, float) and math.isfinite(one) for one in (low, high)) or not low < high:
                raise ValueError(f"action bounds from {low!r} to {high!r}: expected two numbers in order, or None")

    @classmethod
    def of(cls, low: Any, high: Any) -> ActionBounds | None:
        """Return bounds ``[A]`` that are unknown where they are no finite numbers in order; None if all are."""
        low, high = np.ravel(np.asarray(low, np.float64)), np.ravel(np.asarray(high, np.float64))
        known = np.isfinite(low) & np.isfinite(high) & (low < high)
        if not known.any():
            return None
        return cls(*(tuple(x if y else None for x, y in zip(side.tolist(), known)) for side in (low, high)))

    def _pairs(self) -> list[tuple[Any, Any]]:
        return list(zip(self.low, self.high, strict=True))

    def differ(self, other: ActionBounds) -> bool:
        """Tell whether a component that both know has other bounds; of other sizes nothing is told."""
        if len(self.low) != len(other.low):
            return False
        both = [(a, b) for a, b in zip(self._pairs(), other._pairs(), strict=True) if None not in (*a, *b)]
        return any(abs(x - y) > SLACK * (a[1] - a[0]) for a, b in both for x, y in zip(a, b, strict=True))

    def filled(self, other: ActionBounds | None) -> ActionBounds:
        """Return these bounds, with the other's where these are not known."""
        if other is None or len(other.low) != len(self.low):
            return self
        pairs = [b if a == (None, None) else a for a, b in zip(self._pairs(), other._pairs(), strict=True)]
        return ActionBounds(*zip(*pairs, strict=True))

    def to_dict(self) -> dict[str, list[float | None]]:
        """Return both sides, ready for JSON."""
        return {"low": list(self.low), "high": list(self.high)}

    def __str__(self) -> str:
        """As ``-2 to 2``, or ``[-2, 0] to [4, 10]``."""
        return f"{_few(self.low)} to {_few(self.high)}"


def space_bounds(space: Any) -> ActionBounds | None:
    """Return the bounds of an environment's action space, in the order of its flat actions; None for classes alone."""
    return ActionBounds.of(*ActionAdapter(space).bounds)


def env_bounds(env: Any) -> ActionBounds | None:
    """Return the bounds of environments' flat actions; None where they tell no action space."""
    space = getattr(env, "single_action_space", None)
    bounds = None if space is None else space_bounds(space)
    if bounds is None:
        return None
    steps = env.action_spec.dim // len(bounds.low)  # in one action, see worldflux.envs.skipping
    return ActionBounds(bounds.low * steps, bounds.high * steps)


def known_together(sides: Iterable[Named]) -> ActionBounds | None:
    """Return what several know of the same actions; None if none knows anything.

    Raises ConfigurationError, naming two of them and the way out, if they differ.
    """
    known: list[tuple[str, ActionBounds]] = [(name, bounds) for name, bounds in sides if bounds is not None]
    for i, (name, bounds) in enumerate(known):
        for other, its in known[:i]:
            if bounds.differ(its):
                raise ConfigurationError(
                    f"the actions of {other} go from {its}, those of {name} from {bounds}, so the same number in "
                    "[-1, 1] is another action there: record the data anew in the environment that is meant, name one "
                    "with the data's bounds, or name the bounds where a format leaves them open (action_low, "
                    "action_high)"
                )
    found: ActionBounds | None = None
    for _, bounds in known:
        found = bounds if found is None else found.filled(bounds)
    return found


def _few(side: Sequence[float | None]) -> str:
    words = ["?" if one is None else f"{one:g}" for one in side]
    if len(set(words)) == 1:
        return words[0]
    return f"[{', '.join(words[:8])}{', …' if len(words) > 8 else ''}]"
