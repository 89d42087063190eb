"""Evaluating while training: how often, and for how much of the time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigurationError
from .callbacks import Callback
from .every import Every
from .signals import Interrupted

if TYPE_CHECKING:
    from .trainer import Trainer

FREE = 1.0  # seconds of evaluation that are never too much: of a moment's training any share is nothing
logger = logging.getLogger(__name__)


class EvalCallback(Callback):
    """Calls ``evaluate(trainer)`` every ``interval`` steps (default: the config's) and logs the numbers as ``eval/…``.

    With ``env_steps`` it counts environment steps instead, from the first; none is made before the first update. The
    model is in evaluation mode meanwhile, and its random numbers are where they were afterwards: evaluating changes
    nothing about the training.

    One that would bring the time of all evaluations over ``share`` of the run's, if it took as long as the one before,
    is left out, which the log says once; the first is always made. One that a signal interrupts (``evaluate`` raises
    ``Interrupted``) leaves no record, and is made when the run goes on.
    """

    def __init__(
        self,
        evaluate: Callable[[Trainer], Mapping[str, float]],
        *,
        interval: int | None = None,
        env_steps: int | None = None,
        share: float = 0.2,
    ) -> None:
        if not 0 < share <= 1:
            raise ConfigurationError(f"share is {share!r}, expected a part of the time: above 0 and at most 1")
        self.evaluate, self.interval, self.env_steps, self.share = evaluate, interval, env_steps, share
        self._every, self._due = Every(env_steps or 0), False
        self._saved: Mapping[str, Any] = {}  # a checkpoint's count
        self._took: float | None = None  # seconds, the last one
        self._said = False  # that one was left out

    def on_train_begin(self, trainer: Trainer) -> None:
        self._every.begin(trainer.source)
        self._every.load_state_dict(self._saved)
        self._saved = {}
        if self._due:
            self._evaluate(trainer)

    def on_step_end(self, trainer: Trainer) -> None:
        if self.env_steps is None:
            interval = trainer.config.eval_interval if self.interval is None else self.interval
            due = interval > 0 and trainer.step % interval == 0
        else:
            due = self._every.reached(trainer.source)
        if due and self.affordable(trainer):
            self._evaluate(trainer)

    def affordable(self, trainer: Trainer) -> bool:
        """Whether an evaluation that is due keeps within the share of the time; says once where not."""
        if self._took is None:
            return True
        spent = trainer.eval_seconds + self._took
        if spent <= max(FREE, self.share * (trainer.seconds + spent)):
            return True
        if not self._said:
            logger.info(
                "no evaluation at step %d: it would take about %.1f s, and evaluations %.0f of the run's %.0f s, more "
                "than their share of %g; those that are left out from now on are not told of",
                trainer.step, self._took, spent, trainer.seconds + spent, self.share,
            )  # fmt: skip
        self._said = True
        return False

    def _evaluate(self, trainer: Trainer) -> None:
        self._due, began = True, time.monotonic()
        try:
            with trainer.evaluating():
                results = self.evaluate(trainer)
        except Interrupted:
            return
        self._due, self._took = False, time.monotonic() - began
        if not isinstance(results, Mapping):
            raise ConfigurationError(f"evaluate must return numbers by name, got {type(results).__name__}")
        trainer.eval_seconds += self._took
        named = {key if key.startswith("eval/") else f"eval/{key}": value for key, value in results.items()}
        trainer.log({**named, "eval/seconds": round(self._took, 3)})

    def state_dict(self) -> dict[str, Any]:
        return {"every": self._every.state_dict(), "due": self._due, "took": self._took}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._due, self._took = bool(state.get("due")), state.get("took")
        self._saved = state.get("every", {})
