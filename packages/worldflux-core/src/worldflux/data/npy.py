"""Arrays in numpy's file format, read without numpy's reader: plain numbers, exact sizes, one kind of error."""

from __future__ import annotations

import math
import re
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from worldflux.core.errors import CheckpointError
from worldflux.files import opened

from .memory import memory

#: A dictionary as numpy has always written it; nothing that needs Python to be read.
_HEADER = re.compile(
    rb"\{'descr': '([^']{1,40})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,18}(?:, ?\d{1,18}){0,31},?)?)\),? *\} *\n?"
)
NUMBERS = r"[<>|=]?(b1|[iu][1248]|f[248])"
#: What needs no pickle: numbers, complex ones, text and bytes of a fixed width, times.
_PLAIN = rf"{NUMBERS}|[<>|=]?(c8|c16|[SU][1-9]\d{{0,6}}|[mM]8(\[\d{{0,9}}[A-Za-z]{{1,7}}\])?)"
_LENGTHS = {1: 2, 2: 4, 3: 4}  # version of the format -> bytes that hold the length of the header
_LONGEST = 1 << 16


def map_npy(file: Path, name: str) -> np.ndarray:
    """Return the array of a ``.npy`` file as a read-only view of it. Raises CheckpointError, naming array and file."""
    try:
        with opened(file) as handle:
            dtype, shape, order, start = read_header(handle, _PLAIN)
            size = handle.seek(0, 2)
            if size != start + math.prod(shape) * dtype.itemsize:
                raise ValueError(
                    f"it has {size} bytes, {dtype}{shape} takes {start + math.prod(shape) * dtype.itemsize}"
                )
            if not math.prod(shape):
                return np.empty(shape, dtype)
            return plain(np.memmap(handle, dtype, "r", start, shape, order))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"array {name!r} in {file} is damaged: {error}") from error


def check_writable(name: str, array: np.ndarray) -> None:
    """Raise TypeError, naming array and dtype, for an array that ``map_npy`` could not read back."""
    array = np.asarray(array)
    if not re.fullmatch(_PLAIN, array.dtype.str) or array.ndim > 32:  # a structure's begins with "|V"
        raise TypeError(
            f"array {name!r} is {array.dtype}{array.shape}: without pickle only numbers, text and bytes of a fixed "
            "width and times are saved; convert it"
        )


def read_npz(file: Path, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Return the named arrays of a ``.npz`` file. Raises CheckpointError if one is missing, damaged or too large."""
    try:
        with opened(file, follow=True) as handle, zipfile.ZipFile(handle) as archive:
            there = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = [there[name] for name in (*names, *(name for name in optional if name in there))]
            size, limit = sum(info.file_size for info in wanted), memory() // 4  # a copy is made of what is read
            if size > limit:  # compressed, anything may look small
                raise ValueError(f"it unpacks to {size:,} bytes, more than a quarter of this machine's memory")
            return {info.filename.removesuffix(".npy"): read_member(archive, info) for info in wanted}
    except Exception as error:  # what damaged archives raise can be anything
        said = f"it holds no {error}" if isinstance(error, KeyError) else error
        raise CheckpointError(f"{file} is not a readable replay buffer: {said}") from error


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Return an array of an archive, its checksum checked. Raises ValueError, or whatever zipfile does."""
    with archive.open(info) as handle:
        dtype, shape, order, start = read_header(handle, NUMBERS)
        if info.file_size != start + math.prod(shape) * dtype.itemsize:
            raise ValueError(
                f"{info.filename} has {info.file_size - start:,} bytes, {dtype}{shape} takes another number"
            )
        data = handle.read()  # to the end, where the archive's own check is
    array = plain(np.frombuffer(data, dtype).reshape(shape, order=order))
    return array.astype(dtype.newbyteorder("="), copy=False)


def read_header(handle: IO[bytes], kinds: str) -> tuple[np.dtype, tuple[int, ...], Any, int]:
    """Return the dtype, the shape, the order and the place of the data. Raises ValueError if ``kinds`` has it not."""
    magic = handle.read(8)
    if len(magic) < 8 or magic[:6] != b"\x93NUMPY" or magic[6] not in _LENGTHS:
        raise ValueError("it is no array of plain numbers")
    width = _LENGTHS[magic[6]]
    length = int.from_bytes(handle.read(width), "little")
    match = _HEADER.fullmatch(handle.read(length)) if length <= _LONGEST else None
    descr = match[1].decode("latin-1") if match else ""
    if match is None or not re.fullmatch(kinds, descr, re.ASCII):
        raise ValueError("its header names no plain numbers")
    try:
        dtype = np.dtype(descr)
    except TypeError as error:  # a unit of time that there is not
        raise ValueError(f"its dtype is {descr!r}: {error}") from error
    shape = tuple(int(size) for size in match[3].replace(b" ", b"").split(b",") if size)
    return dtype, shape, "F" if match[2] == b"True" else "C", 8 + width + length


def plain(array: np.ndarray) -> np.ndarray:
    """Return the array. Raises ValueError if it is of booleans that are none."""
    if array.dtype == bool and array.size and array.view(np.uint8).max() > 1:
        raise ValueError("it holds bytes that are neither True nor False")
    return array
