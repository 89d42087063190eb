"""One directory, one writer: who writes to it holds a lock on it, which the system takes back if they die."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import stat
import sys
import time
import weakref
from pathlib import Path

from worldflux.core.errors import CheckpointError, ConfigurationError

NAME = ".lock"
_FAR = 1 << 30  # where Windows locks a byte: what is locked there cannot be read by others
logger = logging.getLogger(__name__)


class FolderLock:
    """A context that one process, and one place in it, can be in at a time for a directory.

    It makes the directory and, in it, ``.lock``, which says who holds it. The lock is ``flock``'s, of an open file: a
    lock of ``fcntl`` would belong to the process, so that two writers in one process would share it and any reader
    that closed the file would end it. An open file is inherited by forked workers, who may outlive a killed parent:
    they close theirs. The same object may be entered again inside itself. Where the file system knows no locks, a
    warning says so and nothing is locked.

    Raises:
        ConfigurationError: somebody else holds it. CheckpointError: the directory cannot be made or written to.
    """

    #: What is said of it: who another holder is, what they do here, what was to be made, and the way out.
    who, doing, making = "another writer", "written to", "write a dataset"
    way_out = "wait until that has ended, or stop it; or choose another directory"

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self._depth = 0
        self._handle: int | None = None
        self._made: list[Path] = []
        if hasattr(os, "register_at_fork"):
            alive = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _forget(alive()))

    def __enter__(self) -> FolderLock:
        if self._depth == 0:
            self._take()
        self._depth += 1
        return self

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._release()

    def _take(self) -> None:
        path = self.directory / NAME
        self._made = [folder for folder in (self.directory, *self.directory.parents) if not folder.exists()]
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            while self._handle is None:
                self._handle = _open(path)
                if not _lock(self._handle, self.who):
                    raise ConfigurationError(self._taken(path))
                if not _is(path, self._handle):  # its holder has just removed it
                    self._close()
            _write(self._handle)
        except OSError as error:
            self._close()
            raise CheckpointError(f"cannot {self.making} in {self.directory}: {error}") from error
        except ConfigurationError:
            self._close()
            raise

    def _release(self) -> None:
        if self._handle is None:  # in a forked worker, which holds nothing
            return
        with contextlib.suppress(OSError):  # Windows removes no open file; a full disk is no reason to fail
            (self.directory / NAME).unlink(missing_ok=True)
        self._close()
        for folder in self._made:  # that nothing was written to
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _taken(self, path: Path) -> str:
        who = self.who
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            with path.open("rb") as file:
                holder = json.loads(file.read(4096))
            who = f"process {int(holder['pid'])} on {str(holder['host'])!r} since {str(holder['started'])!r}"
        return f"{self.directory} is being {self.doing} by {who}: {self.way_out}"

    def _close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _forget(lock: FolderLock | None) -> None:
    if lock is not None:
        with contextlib.suppress(OSError):
            lock._close()


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags, 0o644)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise OSError(f"{path} is no regular file")


def _lock(handle: int, who: str) -> bool:
    """Whether nobody else holds the lock of an open file, which is then ours."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, _FAR, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        logger.warning("no lock keeps %s out of this directory: its file system has none (%s)", who, error)
    return True


def _is(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _write(handle: int) -> None:
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": time.strftime("%Y-%m-%d %H:%M:%S")}
    os.lseek(handle, 0, os.SEEK_SET)
    os.ftruncate(handle, 0)
    with contextlib.suppress(OSError):  # who holds it is not needed to hold it
        os.write(handle, json.dumps(holder).encode())
