"""From a request to a running supervisor; whatever is missing is said before anything starts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..core.backends import OfficialBackendHandle
from ..core.errors import ConfigurationError, TrainingError
from .backend import SubprocessBackend
from .files import tail, take_lock, write_json
from .job import Job
from .program import Program, Request

_PATIENCE = 300.0  # for a supervisor to start on a machine that is very busy


def launch(
    backend: SubprocessBackend,
    handle: OfficialBackendHandle,
    *,
    run_dir: str | os.PathLike[str],
    task: str,
    env_steps: int | None = None,
    python: str | os.PathLike[str] | None = None,
    checkout: str | os.PathLike[str] | None = None,
    training: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
) -> Job:
    """Start the official program of a backend on ``task`` and return its job, which goes on without this process.

    ``python`` and ``checkout`` default to the backend's environment variables; ``training`` are ``TrainingConfig``
    fields by name; ``options`` the program's own settings; ``env`` environment variables for the program. They are kept
    in ``job.json``: what is secret belongs into the environment of this process, which the program inherits.

    Raises:
        ConfigurationError: the interpreter, the checkout or a module is missing, an option cannot be followed, or
            ``run_dir`` is taken. Then nothing has been started or written.
        TrainingError: the supervisor itself did not start.
    """
    if os.name != "posix":
        raise ConfigurationError(f"official programs run in process groups, which {sys.platform} does not have")
    if env_steps is not None and env_steps < 1:
        raise ConfigurationError(f"env_steps is {env_steps!r}, expected at least 1")
    job = Job(Path(os.path.abspath(os.path.expanduser(os.fspath(run_dir)))))
    _refuse_taken(job)
    backend.check_training(training or {})
    request = Request(
        model_id=handle.model_id,
        task=task,
        folder=job.folder,
        checkout=backend.find_checkout(checkout),
        profile=str(handle.metadata.get("backend_profile", "")),
        env_steps=env_steps,
        config=handle.metadata.get("config", {}),
        training=training or {},
        options=options or {},
    )
    interpreter = backend.find_python(python)
    program = backend.program(request)
    variables = {**program.env, **(env or {})}
    version = backend.check_modules(interpreter, request.checkout, variables)
    description = _describe(backend, request, program, interpreter, version, variables)
    try:
        json.dumps(description)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"options and env take text, numbers and lists of them: {error}") from error
    return _start(job, description)


def _describe(
    backend: SubprocessBackend,
    request: Request,
    program: Program,
    interpreter: Path,
    version: str,
    variables: Mapping[str, str],
) -> dict[str, Any]:
    """What ``job.json`` holds."""
    asked = {**asdict(request), "folder": str(request.folder), "checkout": str(request.checkout)}
    run = {**asdict(program), "argv": [str(interpreter), *program.argv], "env": dict(variables)}
    run["cwd"] = str(program.cwd or request.folder)
    return {"backend": backend.id, "python": version, "request": asked, "program": run}


def _refuse_taken(job: Job) -> None:
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


def _start(job: Job, description: dict[str, Any]) -> Job:
    try:
        job.run_dir.mkdir(parents=True, exist_ok=True)
        lock = take_lock(job.lock_path, patience=1.0)
    except OSError as error:
        raise ConfigurationError(f"cannot write to output_dir {str(job.run_dir)!r}: {error}") from error
    if lock is None:
        raise ConfigurationError(f"another process is submitting a job in {str(job.run_dir)!r}")
    try:
        _refuse_taken(job)  # now that nobody else can come between
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
