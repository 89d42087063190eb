"""What a check is: a plain function of a ``Subject`` that raises, and when it applies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Level = Literal["static", "imports", "full"]
LEVELS: tuple[Level, ...] = ("static", "imports", "full")  # each includes the ones before it


class CheckFailed(AssertionError):
    """The family breaks a rule; the message says which, what was found and what to do about it."""


class CheckSkipped(Exception):
    """The rule cannot be judged for this family; the message says why."""


@dataclass(frozen=True)
class Check:
    """A rule every family is held to.

    ``requires`` are capabilities of the manifest without which the rule does not apply; ``since`` is the plugin API
    that introduced it: a plugin written for an older one is not held to it.
    """

    name: str
    run: Callable[[Any], None]
    level: Level
    requires: frozenset[str]
    since: str

    @property
    def rule(self) -> str:
        """The rule in one sentence: the function's docstring, first line."""
        return (self.run.__doc__ or self.name).strip().splitlines()[0]


F = TypeVar("F", bound="Callable[[Any], None]")


def check(*, level: Level = "full", requires: tuple[str, ...] = (), since: str = "1.0") -> Callable[[F], F]:
    """Mark a function ``check_…(subject)`` as a check; the function stays a plain function."""

    def mark(function: F) -> F:
        function.worldflux_check = Check(  # type: ignore[attr-defined]
            function.__name__, function, level, frozenset(requires), since
        )
        return function

    return mark


def expect(holds: bool, message: str) -> None:
    """Raise CheckFailed with ``message`` unless ``holds``."""
    if not holds:
        raise CheckFailed(message)
