"""The run directory, and its ``run_manifest.json``: what was run, with which versions, how far, and how it ended."""

from __future__ import annotations

import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError, ConfigurationError
from ..files import abandoned, write_json
from .checkpoint import checkpoints

SCHEMA = "worldflux.training.run_manifest.v1"


class RunManifest:
    """The manifest of one run directory. ``status`` is running, finished, preempted or failed."""

    def __init__(self, path: Path, info: dict[str, Any]) -> None:
        self.path = path
        self.content: dict[str, Any] = {
            "schema": SCHEMA,
            "command": sys.argv,
            "versions": _versions(),
            "platform": platform.platform(),
            "started": time.time(),
            **info,
        }

    def write(self, *, status: str, **facts: Any) -> None:
        """Record a status and whatever facts belong to it. Raises CheckpointError if it cannot be written."""
        self.content.update(facts, status=status, updated=time.time())
        try:
            write_json(self.path, self.content)
        except CheckpointError as error:
            raise CheckpointError(f"{error}. Make room, then resume") from error


def refuse_other_run(run_dir: Path, found: Path | None, *, going_on: bool) -> None:
    """Raise ConfigurationError if checkpoints lie in a run directory that do not belong to the run that starts.

    They do if it resumes from one of them (``found``), or goes on in the same process.
    """
    folder = run_dir / "checkpoints"
    if going_on or (found is not None and found.parent.resolve() == folder.resolve()):
        return
    if there := checkpoints(folder):
        raise ConfigurationError(
            f"output_dir {str(run_dir)!r} already holds a run ({there[0].name}): "
            f"pass resume_from={str(run_dir)!r} to go on with it, or choose another output_dir"
        )


def open_run(trainer: Any, found: Path | None) -> RunManifest:
    """Write a Trainer's ``config.json`` and its manifest, which is returned; ``found`` is where it goes on from.

    Raises CheckpointError if they cannot be written.
    """
    info = {
        "model": type(trainer.model).__name__,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "seed": trainer.config.seed,
        "device": str(trainer.device),
        "resumed_from": found and str(found),
    }
    _sweep(trainer.run_dir)
    manifest = RunManifest(trainer.run_dir / "run_manifest.json", info)
    manifest.write(**facts_of(trainer))  # first: what a finished run was asked for stays until it is one no more
    write_json(trainer.run_dir / "config.json", {**trainer.run_info, "training": trainer.config.to_dict()})
    return manifest


def _sweep(run_dir: Path) -> None:
    """Remove what a killed process left of files it was writing."""
    for path in run_dir.glob(".*"):
        if abandoned(path) and path.is_file():
            path.unlink(missing_ok=True)


def facts_of(trainer: Any) -> dict[str, Any]:
    """Return how far a Trainer has come, as its manifest says it."""
    return {
        "status": trainer.status,
        "stop_reason": trainer.stop_reason,
        "step": trainer.step,
        "target": trainer.target,
        "env_steps": trainer.env_steps,
        "seconds": round(trainer.seconds, 3),
        "eval_seconds": round(trainer.eval_seconds, 3),
        "threads": trainer.threads.count,
        "checkpoint": trainer.last_checkpoint and str(trainer.last_checkpoint),
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("worldflux-core", "torch", "numpy", "safetensors", "gymnasium"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
