"""Processes of other programs: their environment, which one a number means, and ending a whole group."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# They belong to our interpreter and would lead another one to our packages.
_OURS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV")


def program_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment for another interpreter, with ``extra`` in it."""
    kept = {name: value for name, value in os.environ.items() if name not in _OURS}
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


def birth(pid: int) -> str | None:
    """When a process started, as the system says it, or None if there is none: a number used again differs in it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *rest = stat.rpartition(")")[2].split()  # the name before it may hold blanks and parentheses
        return None if state in "ZX" else rest[18]
    except OSError:
        if sys.platform == "linux":
            return None
    asked = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None


def group_lives(group: int) -> bool:
    """Whether a process group still has a member."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def signal_group(group: int, what: signal.Signals) -> None:
    """Send a signal to every member of a group; none left is fine."""
    assert group > 1, "0 is our own group"
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, what)


def adopt_orphans() -> None:
    """On Linux, let processes whose parent ends become children of this one, so that it can wait for them."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def reap() -> dict[int, int]:
    """Exit codes (negative: the signal) by id of the children that have ended since."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = os.waitstatus_to_exitcode(status)
    return ended


def explain_exit(code: int) -> str:
    """ "exit code 3", or "signal SIGKILL"."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"
