"""Watching whether a representation collapses while it is trained."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..blocks import CollapseLimits, collapse_measures, representation_of
from ..core.errors import BufferError, ConfigurationError
from ..data.providers import BatchRequest, as_batch, as_provider
from .callbacks import Callback

if TYPE_CHECKING:
    from .trainer import Trainer

AT_ONCE = 256  # rows that are encoded together
FREE = 1.0  # seconds that are never too much
LONG = 16  # rows in which something moves: within the few of a training sequence hardly anything may


class CollapseWarning(UserWarning):
    """A representation has collapsed: what is predicted of it is no evidence of anything."""


class CollapseMonitor(Callback):
    """Measures the representation of rows that are not learned from, and warns where it collapses.

    Every ``interval`` steps (default: the config's ``log_interval``) and at the end, it logs the measures of
    ``worldflux.blocks.collapse_measures`` as ``collapse/…`` (``collapse/NAME/…`` where there are several tensors). What
    is below its limit in ``patience`` measurements in a row, those of the first ``warmup`` steps apart, is warned of
    (``CollapseWarning``), once; with ``abort`` training ends there. Measuring changes nothing about the training. One
    that would bring the time of all of them over ``share`` of the training's is left out (1: none is).

    Args:
        data: what ``as_provider`` takes; None: what is in the source's replay when it is measured first. From it
            ``sequences`` of 16 rows are drawn once (longer where those of training are, as long as these where there
            are none of 16), of which ``rows`` rows, evenly spaced, are encoded.
        names: the state's tensors that are measured; by default the model's ``representation``.
        limits: see ``worldflux.blocks.CollapseLimits``.

    Raises:
        ConfigurationError: the model names no representation; no data, and no replay; fewer than 2 sequences or rows.
    """

    def __init__(
        self,
        data: Any = None,
        *,
        names: tuple[str, ...] = (),
        sequences: int = 256,
        rows: int = 4,
        interval: int | None = None,
        patience: int = 3,
        warmup: int = 100,
        limits: CollapseLimits | None = None,
        abort: bool = False,
        share: float = 0.05,
    ) -> None:
        for name, number, least in (
            ("sequences", sequences, 2),
            ("rows", rows, 2),
            ("patience", patience, 1),
            ("warmup", warmup, 0),
        ):
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                raise ConfigurationError(f"{name} is {number!r}, expected a whole number of at least {least}")
        if not 0 < share <= 1:
            raise ConfigurationError(f"share is {share!r}, expected a part of the time: above 0 and at most 1")
        self.data, self.names, self.sequences, self.rows = data, names, sequences, rows
        self.interval, self.patience, self.warmup = interval, patience, warmup
        self.abort, self.share = abort, share
        self.limits = limits or CollapseLimits()
        self.alarms: list[str] = []  # of the last measurement, in words
        self._streak = 0  # measurements in a row with an alarm
        self._spent, self._took = 0.0, 0.0  # seconds: all of them, the last one
        self._obs: dict[str, Tensor] | None = None  # rows to encode, [B * T, ...]

    def on_train_begin(self, trainer: Trainer) -> None:
        self.names = self.names or representation_of(trainer.model)
        if not self.names:
            raise ConfigurationError(
                f"{type(trainer.model).__name__} names no representation: name the tensors of its states to watch, "
                "CollapseMonitor(data, names=('latent',))"
            )
        if self.data is None and not hasattr(trainer.source, "replay"):
            raise ConfigurationError(
                f"CollapseMonitor needs rows to measure, and {type(trainer.source).__name__} has no replay: "
                "CollapseMonitor(data), best of data that is held out"
            )

    def on_step_end(self, trainer: Trainer) -> None:
        interval = trainer.config.log_interval if self.interval is None else self.interval
        due = interval > 0 and (trainer.step % interval == 0 or trainer.step == trainer.target)
        if due and (self.share == 1 or self._spent + self._took <= max(FREE, self.share * trainer.seconds)):
            self._measure(trainer)

    def _measure(self, trainer: Trainer) -> None:
        began, numbers, self.alarms = time.monotonic(), dict[str, float](), []
        with trainer.evaluating(), torch.no_grad():
            latents = self._latents(trainer)
        for name, found in latents.items():
            if not np.isfinite(found).all():
                self.alarms.append(f"{name}: its latents are not finite numbers")
                continue
            measured = collapse_measures(found)
            prefix = f"collapse/{name}/" if len(latents) > 1 else "collapse/"
            numbers |= {prefix + measure: value for measure, value in measured.numbers().items()}
            self.alarms += [f"{name}: {alarm}" for alarm in measured.alarms(self.limits)]
        self._took = time.monotonic() - began
        self._spent += self._took
        trainer.eval_seconds += self._took
        trainer.log(numbers)
        self._streak = self._streak + 1 if self.alarms and trainer.step >= self.warmup else 0
        if self._streak == self.patience:
            self._warn(trainer)

    def _warn(self, trainer: Trainer) -> None:
        what = "; ".join(self.alarms)
        warnings.warn(
            f"the representation has collapsed by step {trainer.step} ({self.patience} measurements in a row). {what}. "
            "Predictions of it may be exact and mean nothing: give its regulariser more weight, or keep the gradient "
            "from its targets",
            CollapseWarning,
            stacklevel=2,
        )
        if self.abort:
            trainer.stop(f"the representation has collapsed: {what}")

    def _latents(self, trainer: Trainer) -> dict[str, np.ndarray]:
        """The watched latents ``[B, T, D]`` of the rows, encoded each as the first of an episode."""
        self._obs = self._drawn(trainer) if self._obs is None else self._obs
        total = len(next(iter(self._obs.values())))
        parts: dict[str, list[Tensor]] = {name: [] for name in self.names}
        for start in range(0, total, AT_ONCE):
            which = slice(start, start + AT_ONCE)
            state = trainer.model.encode({name: rows[which] for name, rows in self._obs.items()}, deterministic=True)
            for name in self.names:
                parts[name].append(state[name].flatten(1).float().cpu())
        return {name: torch.cat(found).unflatten(0, (self.sequences, -1)).numpy() for name, found in parts.items()}

    def _drawn(self, trainer: Trainer) -> dict[str, Tensor]:
        length = trainer.config.sequence_length + getattr(trainer.model, "context_rows", 0)
        seed = trainer.config.seed
        provider = trainer.source.replay.apart(seed=seed) if self.data is None else as_provider(self.data, seed=seed)
        try:
            drawn = provider.sample(BatchRequest(self.sequences, max(length, LONG), trainer.device))
        except BufferError:
            drawn = provider.sample(BatchRequest(self.sequences, length, trainer.device))
        batch = as_batch(drawn)
        obs = batch.obs if isinstance(batch.obs, Mapping) else {"obs": batch.obs}
        found = dict[str, Tensor]()
        for name, values in obs.items():
            self.sequences, length = values.shape[:2]
            kept = torch.linspace(0, length - 1, min(self.rows, length), device=values.device).round().long()
            found[name] = values[:, kept].flatten(0, 1)
        return found

    def state_dict(self) -> dict[str, Any]:
        return {"streak": self._streak}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._streak = int(state.get("streak", 0))
