"""Minari's ``main_data.hdf5``: a group an episode, names of spaces as groups inside."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.words.counts import counted

from ...extra import need
from ...recording import damaged
from ..common.guard import check_file, faults
from ..common.hdf5 import Hdf5File, Hdf5Rows, Piece, layout_remark
from ..common.images import as_images, decoded
from .meta import Episode, Meta
from .spaces import Box, Leaf, is_picture, named, pictures


class Hdf5Episodes:
    """The episodes of a file; its pictures stay in it."""

    def __init__(self, meta: Meta) -> None:
        self._file = Hdf5File(check_file(meta.file.parent / "main_data.hdf5", within=meta.root))
        self._meta = meta
        self.files: tuple[Path, ...] = (self._file.path,)
        self.remarks: list[str] = []
        self._sizes: dict[str, list[int]] = {}
        names = set(self._file.names(self._file.root))
        missing = next((i for i in range(meta.total_episodes) if f"episode_{i}" not in names), None)
        if missing is not None:
            raise damaged(
                self._file.path, f"it is not there, metadata.json says there are {meta.total_episodes}", episode=missing
            )
        wanted = {f"episode_{i}" for i in range(meta.total_episodes)}
        more = min((name for name in names - wanted if name.startswith("episode_")), default=None)
        if more is not None:
            raise damaged(
                self._file.path,
                f"it holds {more}, metadata.json says there are {counted(meta.total_episodes, 'episode')}",
            )

    def episode(self, i: int) -> Episode:
        """Return an episode but for its pictures, whose number of rows is checked. Raises DatasetError."""
        file, group = self._file, self._file.at(f"episode_{i}", episode=i)
        load = partial(file.load, inside=group, episode=i)
        rewards = load("rewards")
        observations = {}
        for name, leaf in named(self._meta.observation, "obs").items():
            where = _where("observations", leaf)
            if is_picture(leaf.space):
                self._check_pictures(name, leaf, file.dataset(where, inside=group, episode=i), len(rewards) + 1, i)
            else:
                observations[name] = load(where)
        actions = {name: load(_where("actions", leaf)) for name, leaf in named(self._meta.action, "action").items()}
        with faults(file.path, "what is said of it", episode=i):
            facts = {key: _plain(value) for key, value in group.attrs.items()}
        return Episode(
            file.path, observations, actions, rewards, load("terminations"), load("truncations"),
            self._infos(group, i), facts,
        )  # fmt: skip

    def _check_pictures(self, name: str, leaf: Leaf, dataset: Any, rows: int, i: int) -> None:
        shape, dtype = dataset.shape, dataset.dtype
        encoded = _encoded(dataset)
        plain = dtype == leaf.space.dtype and shape[1:] == leaf.space.shape
        if not (encoded or plain):
            raise damaged(
                self._file.path, f"observation {name!r} is {dtype}{list(shape)}, its space says "
                f"{leaf.space.dtype}{list(leaf.space.shape)}", episode=i,
            )  # fmt: skip
        if shape[0] != rows:
            raise damaged(
                self._file.path, f"observation {name!r} has {counted(shape[0], 'row')}, expected {rows}", episode=i
            )
        self._sizes.setdefault(name, []).append(rows)
        if not any(name in remark for remark in self.remarks):
            remark = layout_remark(f"observation {name!r}", dataset)
            self.remarks += [remark] if remark else []

    def _infos(self, group: Any, i: int) -> dict[str, np.ndarray]:
        if "infos" not in group:
            return {}
        found: dict[str, np.ndarray] = {}
        waiting = [("infos", "")]
        while waiting:
            where, name = waiting.pop()
            here = self._file.at(where, inside=group, episode=i)
            if self._file.is_group(here):
                inside = self._file.names(here, episode=i)
                waiting += [(f"{where}/{one}", f"{name}/{one}".lstrip("/")) for one in inside]
            elif getattr(here, "shape", ()) and here.dtype.kind in "biuf":
                found[name] = self._file.load(where, inside=group, episode=i)
            else:
                found[name] = np.empty(len(here) if getattr(here, "shape", ()) else 0, object)
        return found

    def pictures(self, name: str, leaf: Leaf) -> Hdf5Rows:
        """Return where the rows of a picture column are read as they are asked for."""
        where = _where("observations", leaf)
        pieces = [(Piece(f"episode_{i}/{where}", 0, rows),) for i, rows in enumerate(self._sizes[name])]
        return Hdf5Rows(self._file, f"observation {name!r}", pieces, _Pictures(leaf.space))

    @property
    def slow(self) -> list[str]:
        """What made loading columns slow."""
        return self._file.slow

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Pictures:
    """Pictures of a space: plain arrays ``[n, *shape]``, or the bytes of a JPEG in each row."""

    def __init__(self, space: Box) -> None:
        self._space = space

    def __call__(self, values: np.ndarray) -> np.ndarray:
        shape = self._space.shape
        if values.ndim > 2:
            return pictures(self._space, values)
        return as_images(np.stack([decoded(value, shape) for value in values]), shape)


def _encoded(dataset: Any) -> bool:
    """JPEGs: of any length, or rows of bytes where all of an episode weigh the same."""
    vlen = need("h5py", "reading HDF5").check_vlen_dtype(dataset.dtype)
    return (len(dataset.shape) == 1 and vlen == np.uint8) or (len(dataset.shape) == 2 and dataset.dtype == np.uint8)


def _where(root: str, leaf: Leaf) -> str:
    return "/".join([root, *(f"_index_{key}" if isinstance(key, int) else key for key in leaf.path)])


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
