"""Starting a plugin in a process of its own, within a time limit, and seeing what it does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from worldflux.plugins.discovery import Plugin

BOOT_SECONDS = 300.0  # for Python and torch themselves, on a busy machine
START_SECONDS = 60.0
HEAVY_MODULES = 50  # a package that brings as many is worth a word
_PRINTED = 2000
_CHILD = (
    "import json, sys; path, name, place = json.loads(sys.argv[1]); sys.path[:] = path\n"
    "from worldflux.testing.startup_child import main; main(name, place)"
)


@dataclass(frozen=True)
class Startup:
    """What a plugin did when it was started.

    ``seconds`` are its own (torch was imported before); ``reason`` says why it did not start and ``where`` shows the
    stack; ``printed`` is what it wrote to stdout and stderr; ``changed`` names global state it changed, each with what
    it was and is; ``imported`` counts modules by top-level package; ``families`` are packages of other plugins;
    ``formats`` says of each registered format that keeps not what formats promise what is wrong with it.
    """

    outcome: Literal["started", "failed", "hung", "died"]
    seconds: float | None = None
    reason: str = ""
    where: str = ""
    printed: str = ""
    changed: dict[str, str] = field(default_factory=dict)
    imported: dict[str, int] = field(default_factory=dict)
    families: tuple[str, ...] = ()
    formats: dict[str, str] = field(default_factory=dict)

    @property
    def heavy(self) -> dict[str, int]:
        """The packages that brought many modules, largest first."""
        large = [(name, count) for name, count in self.imported.items() if count >= HEAVY_MODULES]
        return dict(sorted(large, key=lambda pair: -pair[1]))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with what is heavy instead of all that was imported."""
        return {
            "outcome": self.outcome,
            "seconds": self.seconds,
            "reason": self.reason,
            "where": self.where,
            "printed": self.printed,
            "changed": self.changed,
            "heavy": self.heavy,
            "families": list(self.families),
            "formats": self.formats,
        }


def observe(plugin: Plugin, *, timeout: float = START_SECONDS) -> Startup:
    """Start ``plugin`` as the kernel does, but in a fresh process that is killed, with its children, when it hangs.

    ``timeout`` (seconds) counts from when Python and torch are loaded. The process sees this one's ``sys.path`` and
    environment.
    """
    with tempfile.TemporaryDirectory(prefix="worldflux-") as folder:
        place = Path(folder)
        with open(place / "stdout", "wb") as out, open(place / "stderr", "wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-c", _CHILD, json.dumps([sys.path, plugin.name, folder])],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            try:
                finished = _wait(process, place, timeout)
            finally:
                _kill(process)
        return _read(place, process.returncode, None if finished else timeout)


def _wait(process: subprocess.Popen[bytes], place: Path, timeout: float) -> bool:
    """Whether the process came to an end in time."""
    ready, deadline = False, time.monotonic() + BOOT_SECONDS
    while process.poll() is None:
        if not ready and (place / "ready").exists():
            ready, deadline = True, time.monotonic() + timeout
        if time.monotonic() > deadline:
            with contextlib.suppress(AttributeError, ProcessLookupError):  # where signals can be sent
                process.send_signal(signal.SIGUSR1)  # faulthandler writes the stack, in whatever code it hangs
                time.sleep(0.5)
            return False
        time.sleep(0.02)
    return True


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and what it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _read(place: Path, code: int, hung_after: float | None) -> Startup:
    ready = json.loads(_text(place / "ready") or "null")
    printed = "".join(_text(place / stream, (ready or {}).get(stream, 0)) for stream in ("stdout", "stderr")).strip()
    printed = printed if len(printed) <= _PRINTED else printed[:_PRINTED] + " …"
    where = _stack(_text(place / "trace"))
    report = _text(place / "report")
    if report:
        values = json.loads(report)
        return Startup(printed=printed, **{**values, "families": tuple(values["families"])})
    if ready is None:
        reason = f"the process that starts it could not get ready (exit code {code})"
        return Startup("died", reason=reason, where=where, printed=printed)
    if hung_after is not None:
        reason = f"it hangs: not started after {hung_after:g} s"
        return Startup("hung", reason=reason, where=where, printed=printed)
    named = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return Startup("died", reason=f"it ended the process with {named}", where=where, printed=printed)


def _text(path: Path, start: int = 0) -> str:
    return path.read_bytes()[start:].decode(errors="replace") if path.exists() else ""


def _stack(trace: str) -> str:
    """A stack of faulthandler's, innermost first, without the frames of the kernel that started the plugin."""
    kept = []
    for line in trace.splitlines():
        if any(os.path.join("worldflux", room) in line for room in ("plugins", "strangers")):
            break
        if "<frozen importlib" not in line:
            kept.append(line)
    return "\n".join(kept).strip()
