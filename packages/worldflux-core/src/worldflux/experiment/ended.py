"""A run that has come to its end, or would have to go back to it."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from worldflux.core.errors import CheckpointError, ConfigurationError

from .environment import Env
from .run import Evaluation, Run
from .settings import Settings, read_json

logger = logging.getLogger(__name__)


def already_finished(directory: Path, settings: Settings, stored: Settings, *, env: Env) -> Run | None:
    """Return a run that is to go on for no more ``steps`` than it was trained for and evaluated after; else None.

    Raises ConfigurationError if it has taken more environment steps than it is to end after.
    """
    if not (directory / "run_manifest.json").is_file():
        return None
    manifest = read_json(directory / "run_manifest.json")
    taken, steps = manifest.get("env_steps") or 0, settings.steps
    if steps is not None and steps < min(taken, stored.steps or taken):
        raise ConfigurationError(
            f"{directory} has taken {taken:,} environment steps already, it cannot go on to {steps:,}: ask for more"
        )
    evaluation = evaluation_at(directory, manifest.get("step"))
    if manifest.get("status") != "finished" or steps != stored.steps or evaluation is None:
        return None
    logger.warning("%s is already finished: %s environment steps; more steps go on with it", directory, f"{taken:,}")
    run = Run(directory, stored, env=env, status="finished")
    run.evaluation = evaluation
    return run


def evaluation_at(directory: Path, step: int | None) -> Evaluation | None:
    """Return the evaluation at a run's end, if it is there and was made after so many updates."""
    with contextlib.suppress(CheckpointError):
        return Evaluation.read(directory / "evaluation.json", step=step)
    return None
