"""Columns of Arrow and Parquet tables as arrays: numbers, or lists of one length, and what is null or ragged named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.words.counts import counted

from ...extra import need
from .guard import faults

LISTS = ("is_list", "is_large_list", "is_fixed_size_list")
_WHAT = "reading tables"


def open_parquet(file: Path, *, episode: int | str | None = None) -> Any:
    """Return a ``ParquetFile``, its head read. Raises DatasetError naming the file."""
    parquet = need("pyarrow.parquet", _WHAT)
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
        read = opened.read if group is None else partial(opened.read_row_group, group)
        table = read(columns=names, use_threads=False)
        table.validate(full=True)
        return {name: table.column(name) for name in names}


def dense(column: Any, shape: Sequence[int], refuse: Callable[[int, str], Exception]) -> np.ndarray:
    """Return a column of numbers, or of lists of them however nested, as ``[rows, *shape]``.

    ``refuse(row, what)`` makes the error for a row that is null or of another shape.
    """
    if not len(column):
        return np.zeros((0, *shape), np.float32)
    values, there = numbers(plain_array(column), refuse)
    if not there.all():
        raise refuse(int(np.argmin(there)), "is null")
    if values[0].size != np.prod(shape):
        raise refuse(0, f"has {counted(values[0].size, 'number')}, expected {int(np.prod(shape))} ({list(shape)})")
    return values.reshape(len(values), *shape)


def plain_array(column: Any) -> Any:
    """Return a chunked column as one array of what it is stored as."""
    arrow = need("pyarrow", _WHAT)
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(array, arrow.ChunkedArray):  # more than fits one array
        raise ValueError("it holds more than one array can: write smaller row groups")
    while isinstance(array, (arrow.ExtensionArray, arrow.DictionaryArray)):
        array = array.storage if isinstance(array, arrow.ExtensionArray) else array.dictionary_decode()
    return array


def numbers(array: Any, refuse: Callable[[int, str], Exception], width: tuple[int, ...] | None = None) -> Any:
    """Return rows of numbers or of lists of one length as ``[n, ...]``, and which of them are there (are not null).

    ``refuse(row, what)`` makes the error for a row of another length than the others, or than ``width``.
    """
    there = np.asarray(array.is_valid())
    kept = array.filter(array.is_valid()) if not there.all() else array
    values, shape = _stacked(kept, np.flatnonzero(there), refuse, width)
    out = np.zeros((len(array), *shape), values.dtype)
    out[there] = values
    return out, there


def _stacked(
    array: Any, rows: np.ndarray, refuse: Callable[[int, str], Exception], width: tuple[int, ...] | None
) -> tuple[np.ndarray, tuple[int, ...]]:
    compute, types = need("pyarrow.compute", _WHAT), need("pyarrow.types", _WHAT)
    shape: list[int] = []
    while any(getattr(types, one)(array.type) for one in LISTS):
        repeat = int(np.prod(shape))
        lengths = np.asarray(compute.list_value_length(array).fill_null(-1))
        values, counts = np.unique(lengths, return_counts=True)
        usual = width[len(shape)] if width else int(values[np.argmax(counts)]) if len(values) else 0
        if (lengths != usual).any():
            at = int(np.argmax(lengths != usual))
            said = "a null" if lengths[at] < 0 else f"{counted(lengths[at], 'entry', 'entries')}"
            raise refuse(int(rows[at // max(repeat, 1)]), f"has {said}, {usual} elsewhere")
        shape.append(usual)
        array = plain_array(need("pyarrow", _WHAT).chunked_array([array.flatten()]))
    if array.null_count:
        at = int(np.argmin(np.asarray(array.is_valid())))
        raise refuse(int(rows[at // max(int(np.prod(shape)), 1)]), "holds a null")
    if not (types.is_integer(array.type) or types.is_floating(array.type) or types.is_boolean(array.type)):
        raise refuse(int(rows[0]) if len(rows) else 0, f"is of type {array.type}, expected numbers")
    flat = array.to_numpy(zero_copy_only=False)
    return flat.reshape(len(rows), *shape), tuple(shape)
