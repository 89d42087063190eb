"""``.npz`` files that must go together: what each holds, whether all hold the same, their columns, their images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ...npy import memory
from ...npz import NpzColumn, npz_arrays, npz_columns
from ...recording import DatasetError, damaged
from .blocks import ArrayBlock
from .columns import WAY_OUT, first_odd
from .guard import check_file
from .images import as_images

#: Files up to so many bytes together are checked whole when they are opened, of more the images as they are read.
CHECKED_AT_OPEN = 1 << 26


def naturally(files: Iterable[Path]) -> list[Path]:
    """Return files by name, numbers in it by their size: ``episode_2`` before ``episode_10``."""
    return sorted(
        files, key=lambda file: [(not one.isdecimal(), int(one) if one.isdecimal() else 0, one) for one in _parts(file)]
    )


def _parts(file: Path) -> list[str]:
    return re.findall(r"\d+|\D+", file.name)


def npz_of(path: Path) -> list[Path]:
    """Return the ``.npz`` files of a folder, or the one file that it is. Raises DatasetError if there are none."""
    if path.is_file():
        return [path]
    files = naturally(file for file in path.glob("*.npz") if not file.name.startswith("."))
    if not files:
        raise DatasetError(f"{path} holds no .npz files")
    return within(path, files)


def within(path: Path, files: list[Path]) -> list[Path]:
    """Return the files of a folder. Raises DatasetError for one that is no plain file, or a link out of the folder."""
    return [check_file(file, within=path) for file in files]


def is_image(column: NpzColumn) -> bool:
    """Whether the rows of a column are images: bytes of two or three axes."""
    return column.dtype == np.uint8 and len(column.shape) in (3, 4)


class NpzFiles:
    """Some ``.npz`` files with the same columns. ``number(i)`` counts file i in messages (None: it is no episode)."""

    def __init__(self, files: Sequence[Path], *, episodes: bool) -> None:
        self.files, self._episodes = list(files), episodes
        self.columns = [npz_columns(file, episode=self.number(i)) for i, file in enumerate(self.files)]

    def number(self, index: int) -> int | None:
        """Return the number of the episode that a file is, if each file is one."""
        return index if self._episodes else None

    def wrong(self, index: int, what: str, *, row: int | None = None, way_out: str = "") -> DatasetError:
        """Return the error that names a file."""
        return damaged(self.files[index], what, episode=self.number(index), row=row, way_out=way_out)

    def pictures(self, names: Iterable[str]) -> list[str]:
        """Return which of the columns hold images."""
        return [name for name in names if is_image(self.columns[0][name])]

    def check_finite(self, index: int, name: str, values: np.ndarray) -> None:
        """Raise DatasetError naming the row, as it stands in the file, of a number that is none."""
        if (odd := first_odd(values)) is not None:
            raise self.wrong(index, f"{name} is {odd[1]}", row=odd[0], way_out=WAY_OUT)

    def check_alike(self, names: Iterable[str]) -> None:
        """Raise DatasetError where a file lacks one of the columns, or has it of another shape or kind."""
        for name in names:
            shapes = [held[name].shape[1:] for held in self.columns if name in held and held[name].dtype is not None]
            usual = Counter(shapes).most_common(1)[0][0] if shapes else ()
            having = [i for i, held in enumerate(self.columns) if name in held]
            first = next((i for i in having if self.columns[i][name].shape[1:] == usual), having[0])
            wanted = self.columns[first][name]
            for i, held in enumerate(self.columns):
                if name not in held:
                    raise self.wrong(
                        i, f"column {name!r} is missing; it holds {', '.join(held)}",
                        way_out=f"every file needs it, as {self.files[first].name} has it",
                    )  # fmt: skip
                one = held[name]
                if one.dtype is None or not one.shape:
                    said = one.said if one.dtype is None else "a single number"
                    raise self.wrong(
                        i, f"column {name!r} is {said}, expected an array of numbers, one entry a row",
                        way_out=f"save it as in np.savez(file, {name}=np.asarray(rows, np.float32))",
                    )  # fmt: skip
                if one.shape[1:] != wanted.shape[1:] or (is_image(one) != is_image(wanted)):
                    raise self.wrong(
                        i, f"column {name!r} is {one.dtype}{list(one.shape[1:])} a row, "
                        f"{wanted.dtype}{list(wanted.shape[1:])} in {self.files[first].name}",
                        way_out="all rows of a dataset have one shape",
                    )  # fmt: skip

    def load(self, names: Sequence[str]) -> list[dict[str, np.ndarray]]:
        """Return some columns of each file; what else a small file holds is checked, too. Raises DatasetError."""
        size = sum(held[name].nbytes for held in self.columns for name in names if name in held)
        if size > memory() // 4:
            said = f"{', '.join(names)} take {size:,} bytes, over a quarter of this machine's memory"
            raise DatasetError(f"{self.files[0].parent}: {said}")
        whole = sum(column.nbytes for held in self.columns for column in held.values()) <= CHECKED_AT_OPEN
        out = []
        for i, file in enumerate(self.files):
            wanted = [name for name in names if name in self.columns[i]]
            others = [name for name, one in self.columns[i].items() if one.dtype is not None] if whole else []
            held = npz_arrays(file, {*wanted, *others}, episode=self.number(i))
            out.append({name: held[name] for name in wanted})
        return out

    def images(self, name: str, index: int) -> ArrayBlock:
        """Return the images of a file, ``[rows, C, H, W]``. Raises DatasetError."""
        images = npz_arrays(self.files[index], [name], episode=self.number(index))[name]
        expected = self.columns[index][name]
        if images.shape != expected.shape or images.dtype != expected.dtype:
            raise self.wrong(
                index, f"column {name!r} has changed since it was opened", way_out="open the dataset again"
            )
        return ArrayBlock(as_images(images, images.shape[1:]))


def joined(parts: Sequence[Mapping[str, np.ndarray]], name: str) -> np.ndarray:
    """Return a column of all files in one line."""
    return np.concatenate([part[name] for part in parts])
