"""What about an environment for study may vary: looks and physics, each with a fixed default and a range."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError, did_you_mean

from .draws import Draws

Looks = dict[str, np.ndarray]
"""The factors of N episodes by name: numbers ``[N]``, colours ``[N, 3]``."""


@dataclass(frozen=True)
class Factor:
    """One number, or a colour (three from 0 to 255); ``low`` and ``high`` bound what is drawn, and numbers given.

    Lengths are shares of the picture's side.
    """

    name: str
    default: tuple[float, ...]
    low: float
    high: float
    about: str

    def check(self, value: Any, *, env: str) -> tuple[float, ...]:
        """Return a value as numbers. Raises ConfigurationError if it is none of this factor's."""
        numbers = value if isinstance(value, (list, tuple, np.ndarray)) else [value]
        real = all(isinstance(one, (int, float, np.number)) and not isinstance(one, bool) for one in numbers)
        low, high = (0.0, 255.0) if self.is_colour else (self.low, self.high)
        if not real or len(numbers) != len(self.default) or not all(low <= one <= high for one in numbers):
            kind = "three numbers (red, green, blue)" if self.is_colour else "a number"
            raise ConfigurationError(
                f"{env}: {self.name} is {value!r}, expected {kind} from {low:g} to {high:g}, 'fixed' or 'random'"
            )
        return tuple(float(one) for one in numbers)

    @property
    def is_colour(self) -> bool:
        """Whether it is a colour."""
        return len(self.default) == 3

    def drawn(self, draws: Draws) -> np.ndarray:
        """Return a value for each episode ``[N, 1 or 3]``, uniform in the range."""
        return self.low + (self.high - self.low) * draws.uniform(f"factor {self.name}", 0, len(self.default))


def number(name: str, default: float, low: float, high: float, about: str) -> Factor:
    """Return a factor that is one number."""
    assert low <= default <= high and not math.isnan(default)
    return Factor(name, (default,), low, high, about)


def colour(name: str, default: tuple[int, int, int], low: int, high: int, about: str) -> Factor:
    """Return a factor that is a colour, each of whose channels is drawn between ``low`` and ``high``."""
    return Factor(name, tuple(map(float, default)), low, high, about)


COMMON = (
    colour("agent_color", (235, 70, 60), 130, 255, "of the disc that acts"),
    colour("background_color", (24, 24, 32), 0, 60, "of the floor"),
    colour("wall_color", (110, 110, 125), 75, 125, "of walls and the border"),
    colour("goal_color", (70, 200, 110), 130, 255, "of the goal's mark, where it is shown"),
    number("blur", 0.0, 0.0, 0.02, "deviation of a Gaussian blur"),
    number("noise", 0.0, 0.0, 15.0, "deviation of the noise on every pixel, of 255"),
    number("light", 1.0, 0.6, 1.1, "by which all colours are multiplied"),
)


class Factors:
    """Which value every factor of an environment has: its default, one that is given, or one drawn for each episode."""

    def __init__(self, env: str, known: Iterable[Factor], given: Mapping[str, Any], vary: Any) -> None:
        self.known = {factor.name: factor for factor in known}
        self.varied = set(_names(vary, self.known, env))
        self._values = {name: factor.default for name, factor in self.known.items()}
        for name, value in given.items():
            if isinstance(value, str) and value in ("random", "fixed"):
                (self.varied.add if value == "random" else self.varied.discard)(name)
            elif name in self.varied:
                raise ConfigurationError(f"{env}: {name} is given as {value!r} and to vary: leave one out")
            else:
                self._values[name] = self.known[name].check(value, env=env)

    def drawn(self, draws: Draws) -> Looks:
        """Return the factors of some episodes."""
        found = {}
        for name, factor in self.known.items():
            value = factor.drawn(draws) if name in self.varied else np.tile(self._values[name], (len(draws), 1))
            found[name] = value if factor.is_colour else value[:, 0]
        return found


def _names(vary: Any, known: Iterable[str], env: str) -> list[str]:
    """Return the names in a list or a text such as ``[speed,blur]``; ``all`` is all. Raises ConfigurationError."""
    names = re.findall(r"[^\s,'\"\[\]()]+", vary) if isinstance(vary, str) else vary
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ConfigurationError(f"{env}: vary is {vary!r}, expected names of factors, as in vary=[speed,blur], or all")
    if list(names) == ["all"]:
        return list(known)
    for name in names:
        if name not in known:
            near = did_you_mean(name, known)
            raise ConfigurationError(f"{env} has no factor {name!r} to vary, it has {sorted(known)}.{near}")
    return list(names)
