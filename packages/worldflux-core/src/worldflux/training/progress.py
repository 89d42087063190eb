"""The line that says how a training goes."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from .callbacks import Callback

if TYPE_CHECKING:
    from .trainer import Trainer


class ProgressCallback(Callback):
    """Shows environment steps, updates, replay ratio, speed, time left and the last return.

    On a terminal it is one live line; elsewhere a plain line every ``interval`` seconds.
    """

    def __init__(self, *, interval: float = 10.0, stream: TextIO | None = None) -> None:
        self.interval, self.stream = interval, stream or sys.stderr
        self._status: Any = None
        self._shown: tuple[float, int, int] = (0.0, 0, 0)
        self._speeds = (0.0, 0.0)
        self._last: dict[str, float] = {}

    def on_train_begin(self, trainer: Trainer) -> None:
        self._shown = (_clock_of(trainer), trainer.step, trainer.env_steps or 0)
        if self.stream.isatty():
            from rich.console import Console  # only where there is a terminal to draw on

            self._status = Console(file=self.stream).status("starting")
            self._status.start()

    def on_collect(self, trainer: Trainer) -> None:
        if not getattr(trainer.source, "started", True):  # later there are updates to show
            self.on_step_end(trainer)

    def on_step_end(self, trainer: Trainer) -> None:
        now, (then, step, env_step) = _clock_of(trainer), self._shown
        if now - then < (0.5 if self._status else self.interval):
            return
        speeds = ((trainer.step - step) / (now - then), ((trainer.env_steps or 0) - env_step) / (now - then))
        if self._status and any(self._speeds):  # a live line flickers without some smoothing
            speeds = (0.8 * self._speeds[0] + 0.2 * speeds[0], 0.8 * self._speeds[1] + 0.2 * speeds[1])
        self._shown, self._speeds = (now, trainer.step, trainer.env_steps or 0), speeds
        self._show(self._line(trainer))

    def on_log(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        for key in ("episode/return", "eval/return", "loss"):
            if key in record:
                self._last[key] = record[key]

    def on_train_end(self, trainer: Trainer) -> None:
        if self._status:
            self._status.stop()
            self._status = None
        self._show(f"{trainer.status} · {self._line(trainer)}")

    def _show(self, line: str) -> None:
        if self._status:
            width = terminal_width(self.stream)
            self._status.console.width = width
            self._status.update(fitted(line, width - 2))  # a spinner is in front
        else:
            self.stream.write(line + "\n")
            self.stream.flush()

    def _line(self, trainer: Trainer) -> str:
        updates, frames = self._speeds
        parts = [f"update {trainer.step:,}/{trainer.target:,}"]
        if trainer.env_steps is not None:
            parts.insert(0, f"env step {trainer.env_steps:,}")
        ratio = getattr(trainer.source, "replay_ratio", None)
        if ratio is not None:
            parts.append(f"replay ratio {ratio:g}")
        if updates:
            parts.append(f"{updates:.1f} updates/s" + (f", {frames:.0f} env steps/s" if frames else ""))
            evaluating = 1 + trainer.eval_seconds / max(trainer.seconds, 1e-9)  # takes its share of what is left, too
            parts.append(f"ETA {_clock((trainer.target - trainer.step) / updates * evaluating)}")
        names = {"episode/return": "return", "eval/return": "eval return", "loss": "loss"}
        shown = ("loss",) if set(self._last) == {"loss"} else ("episode/return", "eval/return")
        parts += [f"{names[key]} {self._last[key]:.4g}" for key in shown if key in self._last]
        return " · ".join(parts)


def terminal_width(stream: TextIO) -> int:
    """Return how many columns the terminal behind a stream has now; 80 if it does not tell."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return shutil.get_terminal_size().columns


def fitted(line: str, width: int) -> str:
    """Return a line without the parts that matter least, so that it fits into ``width`` columns."""
    parts = line.split(" · ")
    for least in ("replay ratio", "updates/s", "eval return", "ETA"):
        if len(" · ".join(parts)) > width:
            parts = [part for part in parts if least not in part]
    return " · ".join(parts)[:width]


def _clock_of(trainer: Trainer) -> float:
    """Seconds that evaluations do not count in, so that they do not look like slow updates."""
    return time.monotonic() - trainer.eval_seconds


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
