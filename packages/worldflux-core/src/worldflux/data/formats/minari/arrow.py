"""Minari's Arrow and Parquet folders: one folder an episode, one row an observation, the last row padded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.files import read_json
from worldflux.words.counts import counted

from ...extra import need
from ...recording import DatasetError, damaged
from ..common.guard import check_file, check_room, faults
from ..common.images import as_images, decoded
from ..common.kept import Kept
from ..common.tables import numbers
from .meta import Episode, Meta
from .spaces import Leaf, is_picture, named, pictures


class ArrowEpisodes:
    """The episodes of a folder; pictures stay in their files."""

    def __init__(self, meta: Meta) -> None:
        self._meta, self._data = meta, meta.file.parent
        self.remarks: list[str] = []
        self.files: tuple[Path, ...] = ()
        more = self._data / str(meta.total_episodes)
        if more.is_dir():
            raise damaged(more, f"it is one more episode than the {meta.total_episodes} of metadata.json")

    def episode(self, i: int) -> Episode:
        """Return an episode but for its pictures, whose number of rows is checked. Raises DatasetError."""
        file = self._part(i)
        self.files += (file,)
        table = Table(file, self._meta.container, i)
        rows = table.rows
        observations = {}
        for name, leaf in named(self._meta.observation, "obs").items():
            path = ("observations", *map(str, leaf.path))
            if is_picture(leaf.space):
                table.check_pictures(path, name)
            else:
                observations[name] = table.numbers(path)
        actions = {
            name: table.numbers(("actions", *map(str, leaf.path)))[: rows - 1]
            for name, leaf in named(self._meta.action, "action").items()
        }
        rewards, ended, cut = (
            table.numbers((name,))[: rows - 1] for name in ("rewards", "terminations", "truncations")
        )
        return Episode(file, observations, actions, rewards, ended, cut, table.infos(), self._facts(i))

    def _part(self, i: int) -> Path:
        folder = self._data / str(i)
        if not folder.is_dir():
            raise damaged(
                folder, f"it is not there, metadata.json says there are {self._meta.total_episodes}", episode=i
            )
        parts = sorted(folder.glob(f"*.{self._meta.container}"))
        if len(parts) != 1:
            raise damaged(
                folder, f"it holds {counted(len(parts), 'file')}, expected one part-0.{self._meta.container}", episode=i
            )
        return check_file(parts[0], within=self._meta.root, episode=i)

    def _facts(self, i: int) -> dict[str, Any]:
        file = self._data / str(i) / "metadata.json"
        if not file.exists():
            return {}
        return read_json(check_file(file, within=self._meta.root, episode=i), error=DatasetError, follow=True)

    def pictures(self, name: str, leaf: Leaf) -> ArrowPictures:
        """Return where the rows of a picture column are read as they are asked for."""
        return ArrowPictures(self.files, self._meta.container, name, leaf)

    @property
    def slow(self) -> list[str]:
        """Nothing: a table is read as a whole."""
        return []

    def close(self) -> None:
        """Nothing stays open."""


class Table:
    """An episode's table, checked from end to end, its columns as plain numbers."""

    def __init__(self, file: Path, container: str, episode: int) -> None:
        self.file, self.episode = file, episode
        with faults(file, f"the {container} file", episode=episode):
            self._table = _read(file, container)
        self.rows = self._table.num_rows
        if not self.rows:
            raise damaged(file, "it has no row", episode=episode)

    def column(self, path: tuple[str, ...]) -> Any:
        """Return the column at a path through its structs, as one array without gaps. Raises DatasetError."""
        with faults(self.file, "/".join(path), episode=self.episode):
            arrow = need("pyarrow", "reading Arrow")
            if path[0] not in self._table.column_names:
                raise damaged(self.file, f"it has no column {path[0]!r}", episode=self.episode)
            found = self._table.column(path[0]).combine_chunks()
            self._check_values(found, path[:1])
            for depth, name in enumerate(path[1:], 2):
                if not arrow.types.is_struct(found.type) or found.type.get_field_index(name) < 0:
                    raise damaged(self.file, f"it has no column {'/'.join(path)!r}", episode=self.episode)
                found = found.field(name)
                self._check_values(found, path[:depth])
            return found

    def _check_values(self, found: Any, path: tuple[str, ...]) -> None:
        if found.null_count:
            row = int(np.argmin(found.is_valid().to_numpy(zero_copy_only=False)))
            raise damaged(self.file, f"{'/'.join(path)} has no value", episode=self.episode, row=row)

    def _refuse(self, path: tuple[str, ...]) -> Callable[[int, str], DatasetError]:
        return lambda row, what: damaged(self.file, f"{'/'.join(path)} {what}", episode=self.episode, row=row)

    def numbers(self, path: tuple[str, ...]) -> np.ndarray:
        """Return a column of numbers ``[rows]``, or of lists of one length ``[rows, n]``. Raises DatasetError."""
        found = self.column(path)
        with faults(self.file, "/".join(path), episode=self.episode):
            return numbers(found, self._refuse(path))[0]

    def check_pictures(self, path: tuple[str, ...], name: str) -> None:
        """Raise DatasetError unless a column holds encoded pictures or lists of numbers."""
        arrow = need("pyarrow", "reading Arrow")
        kind = self.column(path).type
        if not (
            arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind) or arrow.types.is_fixed_size_list(kind)
        ):
            raise damaged(self.file, f"observation {name!r} is {kind}, expected a picture", episode=self.episode)

    def infos(self) -> dict[str, np.ndarray]:
        """Return every column of infos by name; what is no column of numbers is empty."""
        arrow = need("pyarrow", "reading Arrow")
        if "infos" not in self._table.column_names:
            return {}
        found: dict[str, np.ndarray] = {}
        waiting: list[tuple[str, ...]] = [("infos",)]
        while waiting:
            path = waiting.pop()
            with faults(self.file, "/".join(path), episode=self.episode):
                column = self._table.column("infos").combine_chunks()
                for name in path[1:]:
                    column = column.field(name)
                if arrow.types.is_struct(column.type):
                    waiting += [(*path, field.name) for field in column.type]
                    continue
            try:
                found["/".join(path[1:])] = numbers(column, self._refuse(path))[0]
            except Exception:  # text, lists of several lengths: left out, and said
                found["/".join(path[1:])] = np.empty(0, object)
        return found


class ArrowPictures:
    """A picture column: the tables of the last few episodes, rows unpacked as they are asked for."""

    def __init__(self, files: tuple[Path, ...], container: str, name: str, leaf: Leaf) -> None:
        self._files, self._container, self._name, self._leaf = files, container, name, leaf
        self._kept = Kept()

    def rows(self, episode: int, rows: np.ndarray) -> np.ndarray:
        """Return rows of an episode as ``[n, C, H, W]``. Raises DatasetError naming file, episode and row."""
        column, space = self._column(episode), self._leaf.space
        what = f"observation {self._name!r}"
        if hasattr(column.type, "list_size"):
            with faults(self._files[episode], what, episode=episode):
                flat = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
                return pictures(space, flat[rows].reshape(len(rows), *space.shape))
        out = []
        for row in rows.tolist():
            with faults(self._files[episode], what, episode=episode, row=row):
                out.append(decoded(column[row].as_py(), space.shape))
        return as_images(np.stack(out), space.shape)

    def _column(self, episode: int) -> Any:
        path = ("observations", *map(str, self._leaf.path))
        return self._kept.get(episode, lambda: Table(self._files[episode], self._container, episode).column(path))

    def close(self) -> None:
        """Let go of what is kept."""
        self._kept.clear()


def _read(file: Path, container: str) -> Any:
    arrow = need("pyarrow", "reading Arrow")
    if container == "parquet":
        parquet = need("pyarrow.parquet", "reading Parquet")
        with parquet.ParquetFile(file, page_checksum_verification=True) as opened:
            size = sum(opened.metadata.row_group(i).total_byte_size for i in range(opened.metadata.num_row_groups))
            check_room(file, "the table", size)
            table = opened.read()
    else:
        need("pyarrow.ipc", "reading Arrow")
        with arrow.memory_map(str(file), "r") as mapped:
            table = arrow.ipc.open_file(mapped).read_all()
    table.validate(full=True)  # offsets of a damaged file lead anywhere
    return table
