"""What came of a check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["passed", "failed", "skipped", "expected"]


@dataclass(frozen=True)
class CheckResult:
    """One check of one family.

    ``message`` says what is wrong, why it was skipped, or why the failure is expected; ``error`` is what the check
    raised.
    """

    check: str
    outcome: Outcome
    message: str = ""
    seconds: float = 0.0
    error: BaseException | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: check, outcome, message, seconds."""
        return {
            "check": self.check,
            "outcome": self.outcome,
            "message": self.message,
            "seconds": round(self.seconds, 3),
        }


def summary(results: Iterable[CheckResult]) -> str:
    """How many checks had each outcome, such as "21 passed, 2 skipped"."""
    outcomes = [result.outcome for result in results]
    counts = [(outcomes.count(name), name) for name in ("passed", "failed", "skipped", "expected")]
    return ", ".join(f"{count} {name}" for count, name in counts if count) or "no checks"
