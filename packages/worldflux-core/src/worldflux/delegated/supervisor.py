"""Runs one job to its end: ``python -m worldflux.delegated.supervisor RUN_DIR``. Imports no torch and no plugin.

It starts the official program in a process group of its own, writes its metrics as ours, and says in ``status.json``
how it ended. ``cancel.json`` in the run directory, or SIGTERM to the supervisor, ends the whole group.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from worldflux.words.counts import counted

from ..core.errors import CheckpointError
from ..files import read_json, write_json
from .files import take_lock
from .job import GRACE, Job
from .metrics import Counters, MetricsReader
from .processes import (
    adopt_orphans,
    birth,
    explain_exit,
    group_lives,
    program_environment,
    reap,
    signal_group,
)
from .program import MetricsSource

_PAUSE = 0.2
_LEFT_BEHIND = 5.0  # seconds that processes get which the program left behind when it ended


class Supervisor:
    """The supervisor of one job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.program: dict[str, Any] = job.description["program"]
        self.status = {**read_json(job.status_path), "host": socket.gethostname(), "supervisor": os.getpid()}
        counters = self.counters = Counters()
        self.readers = [
            MetricsReader(source, job.folder / source.path if source.path else job.log_path, counters)
            for source in (MetricsSource(**about) for about in self.program["metrics"])
        ]
        self.began = time.monotonic()
        self.group = 0
        self.code: int | None = None
        self.cancelled = self.killed = False
        self.grace: float | None = None  # set by a signal
        self.pending = ""  # lines of metrics that a full disk did not take
        self.told = True

    def run(self) -> None:
        """Start the program and stay until none of its processes is left."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        adopt_orphans()
        try:
            self._start()
            self._watch()
            self._finish()
        except BaseException as error:  # whatever it is, the program must not stay behind unwatched
            traceback.print_exc()
            if self.group:
                signal_group(self.group, signal.SIGKILL)
            self._tell(state="failed", ended=time.time(), message=f"{type(error).__name__}: {error}")

    def _on_signal(self, *_: Any) -> None:
        self.grace = GRACE

    def _start(self) -> None:
        with self.job.log_path.open("ab") as log:
            started = subprocess.Popen(
                self.program["argv"],
                cwd=self.program["cwd"], env=program_environment(self.program["env"]),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.group = started.pid
        started.returncode = 0  # its end is learnt from reap(), which sees every child
        self._tell(state="running", started=time.time(), pid=self.group, birth=birth(self.group))

    def _watch(self) -> None:
        deadline = None
        while self.code is None or group_lives(self.group):
            self.code = reap().get(self.group, self.code)
            self._read()
            now = time.monotonic()
            if deadline is None and (grace := self._wanted()) is not None:
                self.cancelled = self.cancelled or self.code is None
                signal_group(self.group, signal.SIGTERM)
                deadline = now + grace
            elif deadline is not None and now > deadline:
                self.killed = self.killed or group_lives(self.group)
                signal_group(self.group, signal.SIGKILL)
            time.sleep(_PAUSE if deadline is None else _PAUSE / 4)

    def _wanted(self) -> float | None:
        """Seconds of grace, if the group shall end."""
        if self.grace is not None:
            return self.grace
        if not self.job.cancel_path.exists():
            return None if self.code is None else _LEFT_BEHIND
        try:
            return float(read_json(self.job.cancel_path)["grace"])
        except (ValueError, KeyError, TypeError):
            return GRACE

    def _read(self, *, last: bool = False) -> None:
        records = [record for reader in self.readers for record in reader.poll(last=last)]
        seconds = round(time.monotonic() - self.began, 3)
        for record in records:
            counts = {name: record.pop(name) for name in ("step", "env_steps") if name in record}
            self.pending += json.dumps({**counts, "time": seconds, **record}) + "\n"
        try:
            if self.pending:
                with self.job.metrics_path.open("a", encoding="utf-8") as file:
                    file.write(self.pending)
                self.pending = ""
        except OSError as error:
            self._complain(error)
        if records or not self.told:
            self._tell()

    def _finish(self) -> None:
        self._read(last=True)
        assert self.code is not None
        how = explain_exit(self.code)
        if self.cancelled:
            state, message = "cancelled", f"cancelled on request{', and had to be killed' * self.killed} ({how})"
        elif self.code == 0:
            state, message = "finished", ""
        else:
            state, message = "failed", f"the program ended with {how}{self._last_words()}; log.txt holds all it said"
        if skipped := sum(reader.skipped for reader in self.readers):
            message += f"{'; ' * bool(message)}{counted(skipped, 'line')} of its metrics could not be read"
        self._tell(state=state, exit_code=self.code, ended=time.time(), message=message)
        for _ in range(600):  # on a disk that is full for ten minutes, it ends as lost
            if self.told:
                break
            time.sleep(1)
            self._read()

    def _last_words(self) -> str:
        lines = [line.strip() for line in self.job.logs(200).splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
        return f": {(errors or lines)[-1][:500]}" if lines else ""

    def _tell(self, **facts: Any) -> None:
        self.status |= {"step": self.counters.step, "env_steps": self.counters.env_steps, **facts}
        try:
            write_json(self.job.status_path, self.status)
            self.told = True
        except CheckpointError as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        """A disk that is full now may have room later: the program goes on."""
        if self.told:
            sys.stderr.write(f"{error}\n")
        self.told = False


def main(arguments: list[str]) -> int:
    """Supervise the job of a run directory; a second argument is the descriptor of its lock, already held."""
    job = Job(Path(arguments[0]))
    if len(arguments) > 1:
        os.set_inheritable(int(arguments[1]), False)
    elif take_lock(job.lock_path, patience=1.0) is None:
        sys.stderr.write(f"{job.run_dir} has a supervisor\n")
        return 1
    if os.fork():  # whoever submitted waits for this process only, and has no child to look after
        return 0
    Supervisor(job).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
