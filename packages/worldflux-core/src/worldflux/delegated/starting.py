"""From a program to a running supervisor, in a run directory that nobody else has."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..core.errors import ConfigurationError, TrainingError
from ..files import write_json
from .files import tail, take_lock
from .job import Job
from .program import Program, Request

_PATIENCE = 300.0  # for a supervisor to start on a machine that is very busy


def describe(request: Request, program: Program, interpreter: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    """What ``job.json`` says of a request and of how its program is called."""
    asked = {**asdict(request), "folder": str(request.folder), "checkout": str(request.checkout)}
    run = {**asdict(program), "argv": [str(interpreter), *program.argv], "env": dict(variables)}
    run["cwd"] = str(program.cwd or request.folder)
    return {"request": asked, "program": run}


def refuse_taken(job: Job) -> None:
    """Raises ConfigurationError if the run directory holds a job or a run."""
    if job.job_path.exists():
        raise ConfigurationError(
            f"output_dir {str(job.run_dir)!r} already holds a job ({job.status().state}): "
            f"follow it with Job.open({str(job.run_dir)!r}), or choose another output_dir"
        )
    for name in ("run_manifest.json", "checkpoints", "metrics.jsonl", "program"):
        if (job.run_dir / name).exists():
            raise ConfigurationError(
                f"output_dir {str(job.run_dir)!r} already holds a run ({name}): choose another output_dir"
            )


def start(job: Job, description: dict[str, Any]) -> Job:
    """Start a supervisor. Raises ConfigurationError if the directory is taken, TrainingError if it does not start."""
    try:
        job.run_dir.mkdir(parents=True, exist_ok=True)
        lock = take_lock(job.lock_path, patience=1.0)
    except OSError as error:
        raise ConfigurationError(f"cannot write to output_dir {str(job.run_dir)!r}: {error}") from error
    if lock is None:
        raise ConfigurationError(f"another process is submitting a job in {str(job.run_dir)!r}")
    try:
        refuse_taken(job)  # now that nobody else can come between
        job.folder.mkdir()
        status = {"state": "submitted", "submitted": time.time(), "host": socket.gethostname()}
        write_json(job.status_path, status)
        write_json(job.job_path, description)
        with (job.run_dir / "supervisor.log").open("ab") as log:
            starting = subprocess.Popen(
                [sys.executable, "-m", "worldflux.delegated.supervisor", str(job.run_dir), str(lock)],
                cwd=job.run_dir, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                pass_fds=(lock,),
            )  # fmt: skip
        starting.wait(_PATIENCE)  # it goes on in a child of its own
    except (OSError, TypeError, ValueError, subprocess.TimeoutExpired) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise TrainingError(f"the job in {job.run_dir} could not be started: {error}") from error
    finally:
        os.close(lock)
    until = time.monotonic() + _PATIENCE
    while (now := job.status()).state == "submitted" and time.monotonic() < until:
        time.sleep(0.02)
    if now.state == "lost":
        said = tail(job.run_dir / "supervisor.log", 1).strip()
        raise TrainingError(f"the supervisor of the job in {job.run_dir} did not start: {said}")
    return job
