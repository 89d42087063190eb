"""Arrays in files that the system maps into memory, of which little stays resident."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from worldflux.core.errors import ConfigurationError

from ..memory import in_bytes

RESIDENT = 256 << 20  # bytes that may have been touched before all are let go of
_AROUND = 2 << 20  # the system may map so many bytes around the first that is read


class MappedFiles:
    """Makes arrays of zeros that lie in files of a folder, which nobody sees and which end with the process.

    The space is taken on the disk at once, so that a disk that is too small says so now and not in the middle of a run.
    What is read and written goes through the system's cache of pages; beyond ``RESIDENT`` bytes the process lets go of
    them, which costs it a little and keeps what it holds bounded.
    """

    def __init__(self, directory: Path) -> None:
        self._directory, self._maps, self._touched = directory, [], 0  # type: ignore[var-annotated]

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return a writable array of zeros. Raises ConfigurationError where the disk has not the space."""
        size = max(1, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._directory) as file:  # has no name, or loses it with the process
                reserve(file.fileno(), size)
                memory = mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise ConfigurationError(no_room(self._directory, size, error)) from error
        self._maps.append(memory)
        return np.frombuffer(memory, dtype, count=int(np.prod(shape, dtype=np.int64))).reshape(shape)

    def touch(self, nbytes: int, *, places: int = 0) -> None:
        """Take note that so many bytes were read or written, at so many places far from each other."""
        self._touched += nbytes + places * _AROUND
        if self._touched < RESIDENT or not hasattr(mmap, "MADV_DONTNEED"):
            return
        self._touched = 0
        for memory in self._maps:
            memory.madvise(mmap.MADV_DONTNEED)  # what was written is in the file's pages, and stays


def reserve(file: int, size: int) -> None:
    """Make an open file ``size`` bytes long, with its space taken where the system can do so. Raises OSError."""
    try:
        os.posix_fallocate(file, 0, size)
    except AttributeError:  # not every system has it
        os.truncate(file, size)


def has_room(directory: Path, size: int) -> bool:
    """Whether so many bytes are free where a folder is, or would be."""
    return shutil.disk_usage(_standing(directory)).free >= size


def no_room(directory: Path, size: int, error: OSError) -> str:
    """Say what a replay on disk lacks."""
    free = in_bytes(shutil.disk_usage(_standing(directory)).free)
    full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    why = f"only {free} are free there" if full else str(error)
    return (
        f"storage='mmap' takes {in_bytes(size)} in {directory}, but {why}: give a directory with more room, or a "
        "smaller capacity"
    )


def _standing(directory: Path) -> Path:
    return next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
