"""One run of an official program: a directory that any process can follow."""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from ..core.errors import ConfigurationError
from ..files import expanded, read_json, write_json
from .files import is_locked, tail, take_lock
from .processes import birth, group_lives, signal_group

OPEN, OVER = ("submitted", "running"), ("finished", "failed", "cancelled", "lost")
GRACE = 10.0
_PATIENCE = 120.0  # for a supervisor on a machine that is very busy
# what status.json may say of each, where it says anything
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("message", "host"), (str,)),
    **dict.fromkeys(("pid", "exit_code", "env_steps"), (int, NoneType)),
    **dict.fromkeys(("submitted", "started", "ended"), (int, float, NoneType)),
    "step": (int,),
}


@dataclass(frozen=True)
class JobStatus:
    """How a job stands. Times are seconds since 1970; ``checkpoint`` is the newest whole one, for ``import_weights``.

    ``state`` is "submitted", "running", "finished", "failed", "cancelled", or "lost": its supervisor is gone without
    having said how it ended. ``pid`` is the program's, on ``host``; ``message`` says why, where there is a why.
    """

    state: str
    run_dir: Path
    message: str = ""
    pid: int | None = None
    host: str = ""
    exit_code: int | None = None
    submitted: float | None = None
    started: float | None = None
    ended: float | None = None
    step: int = 0
    env_steps: int | None = None
    checkpoint: Path | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in OVER

    def to_dict(self) -> dict[str, Any]:
        """Return the status as JSON-able data."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}


class Job:
    """A job in ``run_dir``, submitted by whomever.

    The directory holds ``job.json`` (what was asked, and the command), ``status.json``, ``metrics.jsonl`` (records like
    those of our own training), ``log.txt`` (what the program prints), ``program/`` (what it writes),
    ``supervisor.log`` and ``lock``, which the supervisor holds while it lives.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.folder = run_dir / "program"
        self.log_path, self.metrics_path = run_dir / "log.txt", run_dir / "metrics.jsonl"
        self.job_path, self.status_path = run_dir / "job.json", run_dir / "status.json"
        self.lock_path, self.cancel_path = run_dir / "lock", run_dir / "cancel.json"

    def __repr__(self) -> str:
        return f"Job({str(self.run_dir)!r})"

    @classmethod
    def open(cls, run_dir: str | os.PathLike[str]) -> Job:
        """The job of a run directory. Raises ConfigurationError if it holds none."""
        job = cls(Path(os.path.abspath(expanded(run_dir))))
        if not job.job_path.is_file():
            raise ConfigurationError(f"{str(run_dir)!r} holds no delegated job (job.json); submit() makes one")
        return job

    @property
    def description(self) -> dict[str, Any]:
        """What was asked and how the program is called. Raises ConfigurationError if ``job.json`` is damaged."""
        return read_json(self.job_path, error=ConfigurationError)

    def status(self) -> JobStatus:
        """How the job stands now. Raises ConfigurationError if its files are damaged."""
        content = self._read_status()
        if content["state"] in OPEN and not self._supervised(content):
            content = self._read_status()  # it may have ended between the two looks
            if content["state"] in OPEN:
                content |= {"state": "lost", "message": self._why_lost(content)}
        known = {name: content[name] for name in JobStatus.__dataclass_fields__ if name in content}
        return JobStatus(**known, run_dir=self.run_dir, checkpoint=self._checkpoint())

    def logs(self, lines: int | None = None) -> str:
        """What the program has printed, or its last ``lines``; "" before it starts."""
        return tail(self.log_path, lines)

    def wait(self, timeout: float | None = None) -> JobStatus:
        """Return the status once the job is over, or as it is after ``timeout`` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        while not (status := self.status()).is_over and (until is None or time.monotonic() < until):
            time.sleep(0.1)
        return status

    def cancel(self, grace: float = GRACE) -> JobStatus:
        """End the program and every process of its group, and return the status; nothing happens to a job that is over.

        They are told to end (SIGTERM), and after ``grace`` seconds made to (SIGKILL). Of a lost job, what still runs on
        this machine is ended.
        """
        status = self.status()
        if status.state == "lost":
            return self._end_lost(grace)
        if status.is_over:
            return status
        write_json(self.cancel_path, {"grace": float(grace)})
        return self.wait(grace + _PATIENCE)

    def _read_status(self) -> dict[str, Any]:
        if not self.status_path.exists():
            return {"state": "submitted"}
        content = read_json(self.status_path, error=ConfigurationError)
        if content.get("state") not in (*OPEN, *OVER):
            expected = f"expected one of {[*OPEN, *OVER]}"
            raise ConfigurationError(f"{self.status_path} has the state {content.get('state')!r:.80}, {expected}")
        for name, kinds in _KINDS.items():
            if name in content and type(content[name]) not in kinds:
                expected = " or ".join(kind.__name__ for kind in kinds)
                raise ConfigurationError(f"{self.status_path}: {name} is {content[name]!r:.80}, expected {expected}")
        return content

    def _supervised(self, content: dict[str, Any]) -> bool:
        """Whether its supervisor lives; from another machine that cannot be told, and is believed."""
        return content.get("host", socket.gethostname()) != socket.gethostname() or is_locked(self.lock_path)

    def _program_lives(self, content: dict[str, Any]) -> bool:
        pid, born = content.get("pid"), content.get("birth")
        if (
            type(pid) is not int or pid <= 1 or not isinstance(born, str)
        ):  # a signal to 0 is to our own group, to 1 to everybody
            return False
        return born == birth(pid) and group_lives(pid)

    def _why_lost(self, content: dict[str, Any]) -> str:
        lives = f"; the program (process {content.get('pid')}) still runs, cancel() ends it"
        return "its supervisor ended without a word: killed, or the machine went down" + (
            lives if self._program_lives(content) else ""
        )

    def _end_lost(self, grace: float) -> JobStatus:
        lock = take_lock(self.lock_path, patience=1.0)
        if lock is None:  # somebody else does it
            return self.wait(grace + _PATIENCE)
        try:
            content = self._read_status()
            if content["state"] in OPEN and self._program_lives(content):
                end_group(content["pid"], grace)
                why = "cancelled on request, after its supervisor had gone"
                write_json(self.status_path, {**content, "state": "cancelled", "ended": time.time(), "message": why})
        finally:
            os.close(lock)
        return self.status()

    def _checkpoint(self) -> Path | None:
        about = self.description.get("program")
        if not isinstance(about, dict):
            raise ConfigurationError(f"{self.job_path}: program is {about!r:.80}, expected how it is called")
        pattern, complete = about.get("checkpoints", ""), about.get("complete", "")
        for name, value in (("checkpoints", pattern), ("complete", complete)):
            if not isinstance(value, str) or {"..", "/"} & set(Path(value).parts):
                raise ConfigurationError(f"{self.job_path}: {name} is {value!r:.80}, expected one in its own folder")
        if not pattern:
            return None
        try:
            found = [path for path in self.folder.glob(pattern) if (path / complete).exists()]
            return max(found, key=lambda path: ((path / complete).stat().st_mtime_ns, path.name), default=None)
        except OSError:  # the program may remove an old one meanwhile
            return None
        except (ValueError, IndexError, RecursionError) as error:  # what glob says of a pattern that is none
            raise ConfigurationError(f"{self.job_path}: checkpoints is {pattern!r:.80}, no pattern: {error}") from error


def end_group(group: int, grace: float) -> None:
    """Tell a process group to end, and after ``grace`` seconds make it."""
    signal_group(group, signal.SIGTERM)
    until = time.monotonic() + grace
    while group_lives(group) and time.monotonic() < until:
        time.sleep(0.05)
    signal_group(group, signal.SIGKILL)
