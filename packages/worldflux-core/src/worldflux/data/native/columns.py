"""The rows of one column in one shard, as they are asked for: mapped, read, or unpacked."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Protocol

import numpy as np

from worldflux.core.errors import CheckpointError
from worldflux.core.spec import ModalitySpec

from ..npy import map_npy
from ..recording import damaged
from ..row import LARGE
from .blocks import BLOCK, unpacked
from .page import SHARDS, Column, Shard


class Rows(Protocol):
    """Rows of a column. ``read(start, stop)`` gives ``[stop - start, ...]``, possibly a view not to write to."""

    def read(self, start: int, stop: int) -> np.ndarray: ...


def open_column(folder: Path, shard: Shard, name: str, spec: ModalitySpec) -> Rows:
    """Return a column of a shard, its sizes checked. Raises DatasetError naming the file."""
    column: Column = shard.columns[name]
    place = folder / SHARDS / shard.name
    shape, dtype = (shard.rows, *spec.shape), np.dtype(spec.dtype)
    if not Path(os.path.realpath(place)).is_relative_to(os.path.realpath(folder)):
        raise damaged(place, "it is a link out of the dataset's folder", way_out="put the shard itself there")
    if column.storage == "zstd":
        count = -(-shard.rows // BLOCK)
        ends = map_column(place / f"{Path(column.file).stem}.npy", name, (count + 1,), np.dtype(np.int64))
        return Packed(place / column.file, shape, dtype, np.array(ends))
    array = map_column(place / column.file, name, shape, dtype)
    return Read(place / column.file, array) if math.prod(spec.shape) * dtype.itemsize >= LARGE else Mapped(array)


def map_column(file: Path, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return a file's array as a view of it. Raises DatasetError unless it has this shape and dtype."""
    try:
        array = map_npy(file, name)
    except CheckpointError as error:
        raise damaged(file, str(error)) from error
    if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
        raise damaged(file, f"{name!r} is {array.dtype}{array.shape}, the dataset says {dtype}{shape}")
    return array


class Mapped:
    """Small rows: a view of the mapped file."""

    def __init__(self, array: np.ndarray) -> None:
        self._map = array
        self._rows = array.view(np.ndarray)  # whose slices cost a third of a memmap's

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows ``start:stop``, a view."""
        return self._rows[start:stop]


class Read:
    """Large rows: read when asked for, so that what was sampled once does not stay in this process."""

    def __init__(self, file: Path, array: np.ndarray) -> None:
        self._file, self._shape, self._dtype = file, array.shape[1:], array.dtype
        self._size = math.prod(self._shape) * self._dtype.itemsize
        self._start = file.stat().st_size - array.nbytes

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows ``start:stop``, a copy. Raises DatasetError."""
        out = np.empty((stop - start, *self._shape), self._dtype)
        _read_into(self._file, out, self._start + start * self._size)
        return out


class Packed:
    """Rows in compressed blocks: the blocks of the rows that are asked for are read and unpacked."""

    def __init__(self, file: Path, shape: tuple[int, ...], dtype: np.dtype, ends: np.ndarray) -> None:
        self._file, self._rows, self._shape, self._dtype, self._ends = file, shape[0], shape[1:], dtype, ends
        try:
            size = file.lstat().st_size
        except OSError as error:
            raise damaged(file, f"it cannot be read: {error}") from error
        if ends[0] != 0 or (np.diff(ends) <= 0).any() or ends[-1] != size:
            raise damaged(file, f"its blocks end at {int(ends[-1])} bytes, it has {size}")

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows ``start:stop``, a copy. Raises DatasetError."""
        out = np.empty((stop - start, *self._shape), self._dtype)
        for block in range(start // BLOCK, -(-stop // BLOCK)):
            first = block * BLOCK
            rows = self._block(block)
            low, high = max(start, first), min(stop, first + BLOCK)
            out[low - start : high - start] = rows[low - first : high - first]
        return out

    def _block(self, block: int) -> np.ndarray:
        first, last = int(self._ends[block]), int(self._ends[block + 1])
        data = np.empty(last - first, np.uint8)
        _read_into(self._file, data, first)
        count = min(BLOCK, self._rows - block * BLOCK)
        try:
            rows = unpacked(data.tobytes(), count * math.prod(self._shape) * self._dtype.itemsize)
        except ValueError as error:
            raise damaged(self._file, f"rows {block * BLOCK} to {block * BLOCK + count - 1}: {error}") from error
        return np.frombuffer(rows, self._dtype).reshape(count, *self._shape)


def _read_into(file: Path, out: np.ndarray, offset: int) -> None:
    """Fill an array from a file. It was looked at when it was opened; a link is not followed since."""
    try:
        handle = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise damaged(file, f"it cannot be read: {error}") from error
    left = out.reshape(-1).view(np.uint8).data
    try:
        while left:
            count = _read_at(handle, left, offset)
            if not count:
                raise damaged(file, f"it ends {len(left)} bytes early")
            left, offset = left[count:], offset + count
    except OSError as error:
        raise damaged(file, f"it cannot be read: {error}") from error
    finally:
        os.close(handle)


def _read_at(handle: int, into: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(handle, [into], offset)
    os.lseek(handle, offset, os.SEEK_SET)  # where there is no preadv; the handle is ours alone
    data = os.read(handle, len(into))
    into[: len(data)] = data
    return len(data)
