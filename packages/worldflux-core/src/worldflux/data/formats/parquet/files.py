"""Columns of Parquet files as arrays: scalars, lists of one length, and images that are read as asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.files import opened
from worldflux.words.counts import counted

from ...extra import need
from ...npy import memory
from ...recording import damaged
from ..common.guard import faults
from ..common.tables import LISTS, plain_array

#: Rows that are read at a time.
_BATCH = 1 << 14


@dataclass(frozen=True)
class Kind:
    """What a column holds: ``form`` is number, text, list, nested (an image as lists), encoded (an image), or other."""

    form: str
    depth: int = 0


def kind_of(type_: Any) -> Kind:
    """Return what a column of an Arrow type is."""
    types = need("pyarrow.types", "Parquet")
    inner, depth = storage(type_), 0
    while any(getattr(types, one)(inner) for one in LISTS):
        inner, depth = storage(inner.value_type), depth + 1
    if types.is_boolean(inner) or types.is_integer(inner) or types.is_floating(inner):
        if depth in (2, 3) and types.is_uint8(inner):
            return Kind("nested", depth)
        return Kind("list", depth) if depth else Kind("number")
    if depth:
        return Kind("other")
    if types.is_struct(inner):
        names = [inner.field(i).name for i in range(inner.num_fields)]
        return Kind("encoded" if "bytes" in names else "other")
    if types.is_binary(inner) or types.is_large_binary(inner):
        return Kind("encoded")
    return Kind("text" if types.is_string(inner) or types.is_large_string(inner) else "other")


def storage(type_: Any) -> Any:
    """Return a type without its name: what an extension is stored as, what a dictionary's entries are."""
    while True:
        if hasattr(type_, "storage_type"):
            type_ = type_.storage_type
        elif need("pyarrow.types", "Parquet").is_dictionary(type_):
            type_ = type_.value_type
        else:
            return type_


class ParquetFiles:
    """Files of one table: the same columns in each, their rows in one line, ``counts`` of them in each."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._parquet = need("pyarrow.parquet", "Parquet")
        self.files = list(files)
        self.kinds: dict[str, Kind] = {}
        self.groups: list[tuple[int, int, int]] = []  # of every row group: its file, its place there, its rows
        for index, file in enumerate(self.files):
            with faults(file, "it"):
                self._look(index, file)
        counts = np.zeros(len(self.files), np.int64)
        for index, _, rows in self.groups:
            counts[index] += rows
        self.counts = counts

    def _look(self, index: int, file: Path) -> None:
        with opened(file, follow=True) as handle, self._parquet.ParquetFile(handle) as table:
            schema, about = table.schema_arrow, table.metadata
            kinds = {field.name: kind_of(field.type) for field in schema}
            if len(kinds) != len(schema):
                raise ValueError("it has two columns of one name")
            if not index:
                self.kinds = kinds
            for name in {**self.kinds, **kinds}:
                if kinds.get(name) != self.kinds.get(name):
                    has, other = (one.get(name, Kind("missing")).form for one in (kinds, self.kinds))
                    raise damaged(file, f"column {name!r} is {has}, in {self.files[0].name} it is {other}")
            for group in range(about.num_row_groups):
                one = about.row_group(group)
                if one.num_rows < 0:
                    raise ValueError("a group of its rows has a negative number of them")
                self.groups.append((index, group, one.num_rows))
                if sum(rows for _, _, rows in self.groups) * 64 > memory():
                    raise ValueError(
                        f"it says that it has {counted(one.num_rows, 'row')}, too many for this machine's memory"
                    )

    @property
    def nbytes(self) -> int:
        """Bytes of the files."""
        return sum(file.stat().st_size for file in self.files)

    def column(self, name: str) -> list[Any]:
        """Return the Arrow arrays of a column, one a file. Raises DatasetError."""
        room, out = memory() // 4, []
        for index, file in enumerate(self.files):
            places = [place for one, place, _ in self.groups if one == index]
            out.append(self._read(file, name, places, int(self.counts[index]), room))
            room -= out[-1].nbytes
        return out

    def group(self, name: str, group: int) -> Any:
        """Return the Arrow array of a column in one group of rows. Raises DatasetError."""
        index, place, rows = self.groups[group]
        return self._read(self.files[index], name, [place], rows, memory() // 4)

    def _read(self, file: Path, name: str, groups: list[int], rows: int, room: int) -> Any:
        """Some groups of a column. Batch by batch, as what a damaged file says of its size may be anything."""
        arrow = need("pyarrow", "Parquet")
        with faults(file, f"column {name!r}"), opened(file, follow=True) as handle:
            chunks: list[Any] = []
            with self._parquet.ParquetFile(handle, page_checksum_verification=True) as table:
                type_ = table.schema_arrow.field(name).type
                for batch in table.iter_batches(_BATCH, row_groups=groups, columns=[name], use_threads=False):
                    chunks.append(batch.column(batch.schema.get_field_index(name)))
                    room -= chunks[-1].nbytes
                    if room < 0:
                        raise ValueError("it takes over a quarter of this machine's memory: write smaller row groups")
            array = plain_array(arrow.chunked_array(chunks, type_))
            if len(array) != rows:
                raise ValueError(f"it has {counted(len(array), 'row')}, the file says {rows}")
            array.validate(full=True)
            return array
