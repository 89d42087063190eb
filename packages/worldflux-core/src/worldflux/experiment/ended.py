"""A run that has come to its end, or would have to go back to it."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from worldflux.core.errors import CheckpointError, ConfigurationError

from .environment import Env
from .results import Evaluation, Learned
from .run import Run
from .settings import Settings, read_json

logger = logging.getLogger(__name__)


def already_finished(directory: Path, settings: Settings, stored: Settings, *, env: Env | None) -> Run | None:
    """Return a run that is to go on for no more than it was trained for and evaluated after; else None.

    Raises ConfigurationError if it has taken more steps than it is to end after.
    """
    if not (directory / "run_manifest.json").is_file():
        return None
    manifest = read_json(directory / "run_manifest.json")
    if stored.env is None:
        taken, asked, before, what = manifest.get("step") or 0, settings.updates, stored.updates, "updates"
    else:
        taken, asked, before = manifest.get("env_steps") or 0, settings.steps, stored.steps
        what = "environment steps"
    if asked is not None and asked < min(taken, before or taken):
        raise ConfigurationError(
            f"{directory} has taken {taken:,} {what} already, it cannot go on to {asked:,}: ask for more"
        )
    if manifest.get("status") != "finished" or asked != before:
        return None
    run = Run(directory, stored, env=env, status="finished")
    run.evaluation, run.learned = (
        evaluation_at(directory, manifest.get("step")),
        learned_at(directory, manifest.get("step")),
    )
    if (stored.acts_in and run.evaluation is None) or (stored.data and stored.held_out and run.learned is None):
        return None
    more = what.removeprefix("environment ")
    logger.warning("%s is already finished: %s %s; more %s go on with it", directory, f"{taken:,}", what, more)
    return run


def evaluation_at(directory: Path, step: int | None) -> Evaluation | None:
    """Return the evaluation at a run's end, if it is there and was made after so many updates."""
    with contextlib.suppress(CheckpointError):
        return Evaluation.read(directory / "evaluation.json", step=step)
    return None


def learned_at(directory: Path, step: int | None) -> Learned | None:
    """Return the losses on held-out data at a run's end, if they are there and of so many updates."""
    with contextlib.suppress(CheckpointError):
        return Learned.read(directory / "held_out.json", step=step)
    return None
