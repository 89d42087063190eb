"""Columns of Parquet files as arrays: only those that are asked for are read, and what is no number is named."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .guard import faults, need


class Ragged(Exception):
    """A row is missing or of another shape: ``what``, and its place in the file."""

    def __init__(self, what: str, row: int) -> None:
        super().__init__(what)
        self.what, self.row = what, row


def open_parquet(file: Path, *, episode: int | str | None = None) -> Any:
    """Return a ``ParquetFile``, its head read. Raises DatasetError naming the file."""
    parquet = need("pyarrow.parquet", "reading Parquet tables")
    with faults(file, "the table", episode=episode):
        return parquet.ParquetFile(file, page_checksum_verification=True)


def read_columns(
    opened: Any, file: Path, names: Iterable[str], *, episode: int | str | None = None, group: int | None = None
) -> dict[str, Any]:
    """Return some columns of a table (or of one group of its rows) by name, as arrow arrays.

    Raises DatasetError naming the file.
    """
    with faults(file, "the table", episode=episode):
        names = list(names)
        absent = [name for name in names if name not in opened.schema_arrow.names]
        if absent:
            raise ValueError(f"it has no column {absent[0]!r}, it has {opened.schema_arrow.names}")
        read = opened.read if group is None else functools.partial(opened.read_row_group, group)
        table = read(columns=names, use_threads=False)
        table.validate(full=True)
        return {name: table.column(name) for name in names}


def dense(column: Any, shape: Sequence[int]) -> np.ndarray:
    """Return an arrow column of numbers, or of lists of them however nested, as ``[rows, *shape]``.

    Raises Ragged naming the first row that is null or of another shape.
    """
    types = need("pyarrow.types", "reading Parquet tables")
    size = math.prod(shape)
    rows = len(column)
    if not rows:
        return np.zeros((0, *shape), np.float32)
    array = _whole(column)
    counts = np.ones(rows, np.int64)  # how many numbers each row has, as far as the lists are opened
    while types.is_list(array.type) or types.is_large_list(array.type) or types.is_fixed_size_list(array.type):
        _refuse_null(array, counts)
        lengths = np.asarray(array.value_lengths().to_numpy(zero_copy_only=False), np.int64)
        ends = np.cumsum(counts)
        total = np.concatenate([[0], np.cumsum(lengths)])
        counts = total[ends] - total[ends - counts]
        array = _storage(array.flatten())
    if (counts != size).any():
        row = int(np.argmax(counts != size))
        raise Ragged(f"has {counts[row]} numbers, expected {size} ({list(shape)})", row)
    _refuse_null(array, counts)
    if not (types.is_integer(array.type) or types.is_floating(array.type) or types.is_boolean(array.type)):
        raise Ragged(f"is of type {array.type}, expected numbers", 0)
    return np.asarray(array.to_numpy(zero_copy_only=False)).reshape(rows, *shape)


def _whole(column: Any) -> Any:
    arrow = need("pyarrow", "reading Parquet tables")
    array = column.combine_chunks()
    return _storage(arrow.concat_arrays(array.chunks) if isinstance(array, arrow.ChunkedArray) else array)


def _storage(array: Any) -> Any:
    """Return what is under an extension type."""
    return getattr(array, "storage", array)


def _refuse_null(array: Any, counts: np.ndarray) -> None:
    if array.null_count:
        at = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
        raise Ragged("is null", int(np.searchsorted(np.cumsum(counts), at, side="right")))
