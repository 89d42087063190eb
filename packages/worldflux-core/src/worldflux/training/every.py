"""Now and then, counted in environment steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Every:
    """Says when a training has passed another multiple of ``steps`` environment steps, counting from its first.

    While a source makes up for the rows it collected before its first batch, the steps whose batches were given count.
    0 steps: never.
    """

    def __init__(self, steps: int) -> None:
        self.steps, self.passed = steps, 0
        self._begun = True

    def begin(self, source: Any) -> None:
        """Count from where a source is: only what comes is passed."""
        self._begun = bool(getattr(source, "started", True))
        self.passed = _position(source) // self.steps if self.steps else 0

    def reached(self, source: Any) -> bool:
        """Whether a multiple was passed since this was last asked; the source's first batch begins a new count."""
        if not self._begun and getattr(source, "started", True):
            self.begin(source)
            return False
        passed, self.passed = self.passed, max(self.passed, _position(source) // self.steps if self.steps else 0)
        return self.passed > passed

    def state_dict(self) -> dict[str, Any]:
        """Return where the count is."""
        return {"steps": self.steps, "passed": self.passed, "begun": self._begun}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state_dict`` returned, unless it counted other steps."""
        if state.get("steps") == self.steps:
            self.passed, self._begun = int(state["passed"]), bool(state["begun"])


def _position(source: Any) -> int:
    replayed = getattr(source, "replayed_steps", None)
    return int(replayed if replayed is not None else getattr(source, "env_steps", None) or 0)
