"""What was measured at the end of a run, as its directory keeps it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from worldflux.core.errors import CheckpointError
from worldflux.evals import EvalResult

from .settings import read_json


@dataclass(frozen=True)
class Evaluation:
    """What the trained policy earned in a run's final evaluation, and what acting at random earns."""

    trained: EvalResult
    random: EvalResult

    def to_dict(self) -> dict[str, Any]:
        """Return both as JSON-able values."""
        return {"trained": self.trained.to_dict(), "random": self.random.to_dict()}

    @classmethod
    def read(cls, file: Path, *, step: Any) -> Evaluation | None:
        """Return what a file of a run holds of its end after ``step`` updates; None if there is no such end.

        Raises CheckpointError if it is damaged.
        """
        if not file.is_file():
            return None
        stored = read_json(file)
        if stored.get("step", step) != step:  # that end is past: more steps were asked for
            return None
        try:
            return cls(EvalResult.from_dict(stored["trained"]), EvalResult.from_dict(stored["random"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{file} holds no evaluation: {error!r}") from error


@dataclass(frozen=True)
class Learned:
    """What a trained model does on held-out windows: its mean ``losses`` by name, of which ``loss`` is the sum.

    ``episodes`` were held out; ``behaviour`` is the mean return of the recorded episodes, None without rewards.
    """

    losses: dict[str, float]
    episodes: int
    behaviour: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return asdict(self)

    @classmethod
    def read(cls, file: Path, *, step: Any) -> Learned | None:
        """Return what a file of a run holds of its end after ``step`` updates; None if there is no such end.

        Raises CheckpointError if it is damaged.
        """
        if not file.is_file():
            return None
        stored = read_json(file)
        if stored.pop("step", step) != step:
            return None
        try:
            losses = {str(name): float(value) for name, value in stored["losses"].items()}
            return cls({"loss": losses.pop("loss"), **losses}, int(stored["episodes"]), stored.get("behaviour"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{file} holds no losses on held-out data: {error!r}") from error
