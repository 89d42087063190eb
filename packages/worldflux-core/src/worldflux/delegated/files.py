"""Files that several processes share: a lock that ends with its holder, and the end of a log."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ..files import opened


def take_lock(path: Path, *, patience: float = 0.0) -> int | None:
    """Lock a file for this process and those that inherit the descriptor returned; None if another has it.

    The system frees it when the last of them ends, however it ends. Hence no process id need be trusted to tell whether
    a supervisor lives. ``patience`` (seconds) outlasts those who only look.
    """
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except OSError:
            if time.monotonic() > until:
                os.close(descriptor)
                return None
            time.sleep(0.02)


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock."""
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # others who look do not disturb each other
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)


def tail(path: Path, lines: int | None = None) -> str:
    """The last lines of a text file (None: all of them); "" if there is no file."""
    try:
        with opened(path) as file:
            size = start = file.seek(0, os.SEEK_END)
            block, found = 1 << 16, b""
            while start > 0 and (lines is None or found.count(b"\n") <= lines):
                start = max(0, start - block)
                file.seek(start)
                found = file.read(size - start)
                block *= 4
    except OSError:
        return ""
    kept = found.decode("utf-8", errors="replace").splitlines(keepends=True)
    return "".join(kept if lines is None else kept[len(kept) - lines :] if lines < len(kept) else kept)
