"""Where stable-worldmodel's columns lie: in one HDF5 file, or in a folder of npz files, pictures and videos."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np

from worldflux.core.spec import ModalitySpec
from worldflux.words.counts import counted

from ...npz import npz_arrays
from ...recording import damaged
from ...video import Videos
from ..common.guard import check_file, faults, the_file
from ..common.hdf5 import Hdf5File, Hdf5Rows, Piece, layout_remark
from ..common.images import as_images, decoded, image_spec, is_image
from ..common.lazy import Source
from ..common.video import ClipFrames

_PICTURES = (".jpeg", ".jpg", ".png")
_TABLE, _VIDEO = ("ep_len", "ep_offset"), ".mp4"
#: Columns with a meaning of their own.
KNOWN = (
    "action",
    "reward",
    "terminated",
    "truncated",
    "step_idx",
    "id",
    "ep_idx",
    "episode_idx",
    "render_time",
    *_TABLE,
)
#: How the names of those begin that a model sees unless others are named.
SEEN = ("observation", "pixels", "proprio")


class Hdf5Columns:
    """The columns of an HDF5 file."""

    container = "hdf5"

    def __init__(self, path: Path) -> None:
        self._file = Hdf5File(the_file(path, (".h5", ".hdf5"), "a set of stable-worldmodel"))
        self.files = (self._file.path,)
        self.remarks: list[str] = []
        self.names: list[str] = []
        self.pictures: set[str] = set()
        self.count = 0
        for name in self._file.names(self._file.root):
            found = self._file.at(name)
            if self._file.is_group(found) or getattr(found, "dtype", np.dtype(object)).kind not in "biuf":
                if name in KNOWN or name.startswith(SEEN):
                    raise damaged(
                        self._file.path, f"{name} holds {getattr(found, 'dtype', 'a group')}, expected numbers"
                    )
                self.remarks.append(f"column {name!r} is left out: it is no array of numbers")
                continue
            self.names.append(name)
            if is_image(found.shape[1:], found.dtype):
                self.pictures.add(name)
            if name not in _TABLE:
                self.count = max(self.count, found.shape[0] if found.shape else 0)

    def file(self, name: str) -> Path:
        """Return the file."""
        return self._file.path

    def load(self, name: str) -> np.ndarray:
        """Return a whole column. Raises DatasetError."""
        return self._file.load(name)

    def open_pictures(self, name: str, lengths: np.ndarray, offsets: np.ndarray) -> tuple[ModalitySpec, Source]:
        """Return the spec of a picture column and where its rows come from. Raises DatasetError."""
        found = self._file.dataset(name)
        if found.shape[0] != self.count:
            raise damaged(self._file.path, f"{name} has {counted(found.shape[0], 'row')}, the others {self.count}")
        remark = layout_remark(name, found)
        self.remarks += [remark] if remark else []
        shape = tuple(found.shape[1:])
        pieces = [(Piece(name, first, count),) for first, count in zip(offsets.tolist(), lengths.tolist())]
        return image_spec(name, shape), Hdf5Rows(self._file, name, pieces, partial(as_images, shape=shape))

    @property
    def slow(self) -> list[str]:
        """What made loading columns slow."""
        return self._file.slow

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class FolderColumns:
    """The columns of a folder: ``NAME.npz``, and ``NAME/ep_0_step_0.jpeg`` or ``NAME/ep_0.mp4``."""

    container = "folder"

    def __init__(self, folder: Path, *, root: Path) -> None:
        self._folder, self._root = folder, root
        self.remarks: list[str] = []
        tables = sorted(folder.rglob("*.npz"))
        self.files = tuple(check_file(file, within=root) for file in tables)
        self.names = [str(file.relative_to(folder))[: -len(".npz")] for file in tables]
        self.pictures: set[str] = set()
        self._names: dict[str, list[str]] = {}
        for inside in sorted(one for one in folder.iterdir() if one.is_dir()):
            listed = sorted(entry.name for entry in os.scandir(inside) if entry.name.startswith("ep_"))
            if listed:
                self.pictures.add(inside.name)
                self.names.append(inside.name)
                self._names[inside.name] = listed
        if any(name.endswith(".mp4") for listed in self._names.values() for name in listed):
            self.container = "video"
        first = next((name for name in ("action", *self.names) if name in self.names and name not in _TABLE), None)
        self.count = 0 if first is None or first in self.pictures else len(np.atleast_1d(self.load(first)))

    def file(self, name: str) -> Path:
        """Return the file of a column."""
        return self._folder / (name if name in self.pictures else f"{name}.npz")

    def load(self, name: str) -> np.ndarray:
        """Return a whole column. Raises DatasetError."""
        return npz_arrays(check_file(self._folder / f"{name}.npz", within=self._root), ("arr_0",))["arr_0"]

    def open_pictures(self, name: str, lengths: np.ndarray, offsets: np.ndarray) -> tuple[ModalitySpec, Source]:
        """Return the spec of a picture column and where its rows come from. Raises DatasetError."""
        listed, inside = set(self._names[name]), self._folder / name
        if f"ep_0{_VIDEO}" in listed:
            files = [inside / f"ep_{i}{_VIDEO}" for i in range(len(lengths))]
            files = [check_file(file, within=self._root, episode=i) for i, file in enumerate(files)]
            frames = ClipFrames(files, lengths.tolist(), Videos(), more=True)
            return image_spec(name, frames.shape), frames
        ending = next((one for one in _PICTURES if f"ep_0_step_0{one}" in listed), _PICTURES[0])
        for i, length in enumerate(lengths.tolist()):
            missing = next((row for row in range(length) if f"ep_{i}_step_{row}{ending}" not in listed), None)
            if missing is not None:
                raise damaged(inside / f"ep_{i}_step_{missing}{ending}", "it is not there", episode=i, row=missing)
        pictures = Pictures(inside, ending, root=self._root)
        return image_spec(name, pictures.shape), pictures

    @property
    def slow(self) -> list[str]:
        """Nothing: an npz is read as a whole."""
        return []

    def close(self) -> None:
        """Nothing stays open."""


#: Columns by name, of ``count`` rows each; ``pictures`` are those that stay on disk.
Columns = Hdf5Columns | FolderColumns


class Pictures:
    """A picture a row: ``ep_EPISODE_step_ROW``, all of the shape of the very first."""

    def __init__(self, folder: Path, ending: str, *, root: Path) -> None:
        self._folder, self._ending, self._root = folder, ending, root
        self.shape: tuple[int, ...] = self._picture(0, 0, None).shape

    def rows(self, episode: int, rows: np.ndarray) -> np.ndarray:
        """Return rows of an episode as ``[n, C, H, W]``. Raises DatasetError naming file, episode and row."""
        return as_images(np.stack([self._picture(episode, int(row), self.shape) for row in rows]), self.shape)

    def _picture(self, episode: int, row: int, shape: tuple[int, ...] | None) -> np.ndarray:
        file = self._folder / f"ep_{episode}_step_{row}{self._ending}"
        with faults(check_file(file, within=self._root, episode=episode), "the picture", episode=episode, row=row):
            return decoded(file.read_bytes(), shape)

    def close(self) -> None:
        """Nothing stays open."""
