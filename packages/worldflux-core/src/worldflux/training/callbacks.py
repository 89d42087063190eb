"""What happens beside the updates: saving, recording, stopping."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import CheckpointError, ConfigurationError
from ..files import expanded, opened, parse_json, write_text
from .every import Every

if TYPE_CHECKING:
    from .trainer import Trainer

logger = logging.getLogger(__name__)


class Callback:
    """Base of the callbacks: override what you need.

    A callback that remembers something across steps returns it from ``state_dict`` (numbers, text, tensors and
    containers of them), so that a resumed run goes on with it.
    """

    def on_train_begin(self, trainer: Trainer) -> None:
        """Training starts, or goes on after a checkpoint was loaded."""

    def on_train_end(self, trainer: Trainer) -> None:
        """Training ended, in whatever way; ``trainer.status`` says how."""

    def on_step_begin(self, trainer: Trainer) -> None:
        """An update is about to be made; ``trainer.step`` are finished."""

    def on_step_end(self, trainer: Trainer) -> None:
        """An update was made; ``trainer.step`` counts it."""

    def on_collect(self, trainer: Trainer) -> None:
        """The source is between two environment steps, where a checkpoint that is requested is saved at once."""

    def on_log(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        """A record of metrics is there: ``step``, ``time`` in seconds and numbers by name."""

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        """A checkpoint was published at ``path``."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state_dict`` returned."""


class CheckpointCallback(Callback):
    """Saves every ``save_interval`` steps (default: the config's); the newest ``keep_checkpoints`` are kept.

    With ``env_steps`` it counts environment steps instead, from the first and while the rows before the first update
    are collected, too. Either way (unless it is 0) those rows are saved as soon as they are complete.
    """

    def __init__(self, save_interval: int | None = None, *, env_steps: int | None = None) -> None:
        self.save_interval, self.env_steps = save_interval, env_steps
        self._every, self._collected = Every(env_steps or 0), True

    def on_train_begin(self, trainer: Trainer) -> None:
        self._every.begin(trainer.source)
        self._collected = getattr(trainer.source, "started", True)

    def on_collect(self, trainer: Trainer) -> None:
        before, self._collected = self._collected, getattr(trainer.source, "started", True)
        first = self._collected and not before and self._interval(trainer) > 0
        if self._every.reached(trainer.source) or first:
            trainer.request_checkpoint()

    def on_step_end(self, trainer: Trainer) -> None:
        if self.env_steps is None:
            interval = self._interval(trainer)
            due = interval > 0 and trainer.step % interval == 0
        else:
            due = self._every.reached(trainer.source)
        if due:
            trainer.request_checkpoint()

    def _interval(self, trainer: Trainer) -> int:
        if self.env_steps is not None:
            return self.env_steps
        return trainer.config.save_interval if self.save_interval is None else self.save_interval


class JSONLCallback(Callback):
    """Appends every record to ``metrics.jsonl`` in the run directory, one JSON object a line, synced to disk.

    Resuming drops the lines written after the checkpoint. A line that cannot be written is a warning, not the end.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else expanded(path)
        self._lines: int | None = None  # written so far; None: not known

    def on_train_begin(self, trainer: Trainer) -> None:
        self.path = self.path or trainer.run_dir / "metrics.jsonl"
        kept: list[str] = []
        if self.path.exists():
            try:
                with opened(self.path) as file:
                    lines = file.read().decode("utf-8", errors="replace").splitlines(keepends=True)
            except OSError as error:
                raise CheckpointError(f"{self.path} cannot be gone on with: {error}") from error
            kept = [line for line in lines if _belongs(line, trainer.step)][: self._lines]
            if kept != lines:
                write_text(self.path, "".join(kept))
        self._lines = len(kept)

    def on_log(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        if self.path is None:
            return
        finite = {key: value if _is_json(value) else str(value) for key, value in record.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(finite) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            logger.warning("step %d is not recorded in %s: %s", trainer.step, self.path, error)
        else:
            self._lines = (self._lines or 0) + 1

    def state_dict(self) -> dict[str, Any]:
        return {"lines": self._lines}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._lines = state.get("lines")  # earlier versions did not count


class EarlyStopping(Callback):
    """Stops once ``monitor`` has not improved by ``min_delta`` for ``patience`` steps.

    ``monitor`` is a key of the logged records; ``mode`` says whether smaller ("min") or larger ("max") is better.
    """

    def __init__(
        self, patience: int = 5_000, min_delta: float = 1e-4, monitor: str = "loss", *, mode: str = "min"
    ) -> None:
        if mode not in ("min", "max"):
            raise ConfigurationError(f"mode is {mode!r}, expected 'min' or 'max'", config_name="EarlyStopping")
        self.patience, self.min_delta, self.monitor = patience, min_delta, monitor
        self.sign = 1.0 if mode == "min" else -1.0
        self.best, self.best_step = math.inf, 0

    def on_log(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        if self.monitor not in record:
            return
        value = self.sign * float(record[self.monitor])
        if value < self.best - self.min_delta:
            self.best, self.best_step = value, trainer.step
        elif trainer.step - self.best_step >= self.patience:
            trainer.stop(f"{self.monitor} has not improved since step {self.best_step}")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.best_step = float(state["best"]), int(state["best_step"])


def _belongs(line: str, step: int) -> bool:
    """Whether a line is whole and not after ``step``."""
    try:
        record = parse_json(line.encode())
        return line.endswith("\n") and bool(record["step"] <= step)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _is_json(value: Any) -> bool:
    return isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value)) or value is None
