"""Columns of ``.npz`` files of which nothing is known: looked at by their heads, read with their checksums."""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.files import opened

from .npy import NUMBERS, memory, read_header, read_member
from .recording import DatasetError, damaged


@dataclass(frozen=True)
class NpzColumn:
    """What the head of an array says: its dtype (None: no plain numbers), shape and bytes; ``said`` names its kind."""

    dtype: np.dtype | None
    shape: tuple[int, ...]
    nbytes: int
    said: str


def npz_names(file: Path) -> list[str]:
    """Return the names of a file's arrays as its list has them, whatever they hold. Raises OSError, BadZipFile."""
    with opened(file, follow=True) as handle, zipfile.ZipFile(handle) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def npz_columns(file: Path, *, episode: int | None = None) -> dict[str, NpzColumn]:
    """Return the arrays of a file by name, by their heads alone.

    Raises DatasetError, naming the file, if it is no archive of arrays, or holds pickled objects.
    """
    found: dict[str, NpzColumn] = {}
    with _named(file, episode), opened(file, follow=True) as handle, zipfile.ZipFile(handle) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name in found:
                raise ValueError(f"it holds two arrays called {name!r}")
            found[name] = _column(archive, info, name)
        if not found:
            raise ValueError("it holds no arrays")
    return found


def npz_arrays(file: Path, names: Collection[str], *, episode: int | None = None) -> dict[str, np.ndarray]:
    """Return some arrays of a file; their checksums are checked.

    Raises DatasetError, naming the file, if one is missing, damaged, no plain numbers, or larger than memory.
    """
    out: dict[str, np.ndarray] = {}
    with _named(file, episode), opened(file, follow=True) as handle, zipfile.ZipFile(handle) as archive:
        there = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if missing := [name for name in names if name not in there]:
            raise ValueError(f"it holds no {missing[0]!r}")
        size, limit = sum(there[name].file_size for name in names), memory() // 4
        if size > limit:  # compressed, anything may look small
            raise ValueError(f"{', '.join(names)} unpack to {size:,} bytes, over a quarter of this machine's memory")
        for name in names:
            if (column := _column(archive, there[name], name)).dtype is None:
                raise ValueError(f"{name!r} is {column.said}")
            try:
                out[name] = read_member(archive, there[name])
            except Exception as error:
                raise ValueError(f"{name!r} cannot be read: {error}") from error
    return out


def _column(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> NpzColumn:
    with archive.open(info) as handle:
        head = handle.read(512)
    if b"'descr': '|O'" in head:
        raise ValueError(f"{name!r} is an array of Python objects, which only a pickle could hold: it is never loaded")
    with archive.open(info) as handle:
        try:
            dtype, shape, _, start = read_header(handle, NUMBERS)
        except ValueError:
            descr = head.partition(b"'descr': ")[2].partition(b", 'fortran")[0].decode("latin-1")[:40]
            return NpzColumn(None, (), 0, f"no plain numbers (dtype {descr or 'unknown'})")
    size = math.prod(shape) * dtype.itemsize
    if info.file_size != start + size:
        raise ValueError(f"{name!r} has {info.file_size - start:,} bytes, {dtype}{shape} takes {size:,}")
    return NpzColumn(dtype, shape, size, f"{dtype}{list(shape)}")


@contextlib.contextmanager
def _named(file: Path, episode: int | None) -> Iterator[Any]:
    try:
        yield
    except DatasetError:
        raise
    except Exception as error:  # what damaged archives raise can be anything
        raise damaged(file, f"not a readable .npz: {short(error)}", episode=episode) from error


def short(error: Exception) -> str:
    """Return what an error says in a line, as some put what they have read there."""
    text = (str(error) or type(error).__name__).splitlines()[0]
    return text if len(text) <= 200 else f"{text[:200]} …"
