"""The run directory, and its ``run_manifest.json``: what was run, with which versions, how far, and how it ended."""

from __future__ import annotations

import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError, ConfigurationError
from ..core.files import write_json
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


def open_run(run_dir: Path, *, config: dict[str, Any], info: dict[str, Any]) -> RunManifest:
    """Make the run directory, write ``config.json`` and return the manifest. Raises CheckpointError if it cannot."""
    write_json(run_dir / "config.json", config)
    return RunManifest(run_dir / "run_manifest.json", info)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("worldflux-core", "torch", "numpy", "safetensors", "gymnasium"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
