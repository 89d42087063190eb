"""From rows that a reader has put in line, in their own dtypes, to a recording: specs, shapes and what must hold."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec

from ...recording import DatasetError, EpisodeTable, damaged
from . import kept
from .actions import Acted, ActionOptions, told_by_data
from .blocks import Block, BlockRows
from .columns import WAY_OUT, first_odd, vector_spec, vectors
from .lazy import LazyRecording, Source

#: Names of a vector that an environment would call "obs".
_ALONE = ("obs", "observation", "observations")


@dataclass
class Lines:
    """The rows of all episodes in one line, in the arrival convention, as they stand in the files.

    ``vectors`` by name ``[rows, ...]``; ``images`` by name the shape ``[C, H, W]`` of what ``load`` reads (see
    ``BlockRows``); ``action`` ``[rows, ...]``, ``reward`` ``[rows]`` or ``[rows, 1]``, each None if there is none;
    ``place(row)`` names the file, the episode and the row of a fault; ``taken`` ``[rows]`` tells which actions somebody
    took (default: all but those of last rows).
    """

    format: str
    folder: Path
    files: list[Path]
    episodes: EpisodeTable
    place: Callable[[int], Mapping[str, Any]]
    vectors: dict[str, np.ndarray]
    action: np.ndarray | None
    reward: np.ndarray | None
    images: dict[str, tuple[int, ...]] = field(default_factory=dict)
    info: dict[str, np.ndarray] = field(default_factory=dict)
    load: Callable[[str, int], Block] | None = None
    block: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    row: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    remarks: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    taken: np.ndarray | None = None

    def recording(self, options: ActionOptions) -> LazyRecording:
        """Return the recording. Raises DatasetError, naming the place, for what no row may hold."""
        self._check_table()
        columns = {f"obs/{name}": self._vector(name, rows) for name, rows in self.vectors.items()}
        obs_spec = {name: vector_spec(name, columns[f"obs/{name}"]) for name in self.vectors}
        for name, shape in self.images.items():
            obs_spec[name] = ModalitySpec(ModalityKind.IMAGE, shape, "uint8", "CHW", name)
        info_spec = {}
        for name, rows in self.info.items():
            columns[f"info/{name}"] = rows = self._info(name, rows)
            info_spec[name] = ModalitySpec(ModalityKind.OTHER, rows.shape[1:], str(rows.dtype), None, name)
        size = self.episodes.rows * sum(math.prod(shape) for shape in self.images.values())
        if size > kept.ROOM:
            self.remarks.append(
                f"{size / 1e9:.1f} GB of images are decoded again and again, as {kept.ROOM >> 20} MiB of them are "
                "kept: convert the data before training"
            )
        acted = self._actions(columns, options)
        if self.reward is not None:
            columns["reward"] = self._rewards(self.reward)
        return LazyRecording(
            self.format,
            self.folder,
            obs_spec,
            acted.spec,
            self.episodes,
            columns,
            info_spec,
            tuple(self.remarks),
            self.provenance,
            tuple(self.files),
            self._sources(),
            action_bounds=acted.bounds,
        )

    def _sources(self) -> dict[str, Source]:
        shared = kept.Kept()
        return {
            f"obs/{name}": BlockRows(
                f"obs/{name}", shape, self.load, self.block, self.row, self.episodes.offsets, shared
            )
            for name, shape in self.images.items()
            if self.load is not None
        }

    def _check_table(self) -> None:
        if not len(self.episodes):
            raise DatasetError(f"{self.folder}: there is no episode in it")
        if not self.vectors and not self.images:
            raise DatasetError(f"{self.folder}: there is no observation in it")
        if (empty := np.flatnonzero(self.episodes.lengths < 1)).size:
            raise DatasetError(f"{self.folder}: episode {self.episodes.ids[empty[0]]} has no rows")

    def _vector(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Numbers as float32 ``[rows, n]``."""
        flat = vectors(rows)
        if not flat.shape[1]:
            raise DatasetError(f"{self.folder}: the observation {name!r} holds no numbers")
        self.check_finite(name, flat, rows)
        if rows.dtype.kind == "f" and rows.ndim == 4 and rows.shape[-1] in (1, 3, 4) and min(rows.shape[1:3]) > 4:
            self.remarks.append(f"{name!r} is {rows.dtype}{list(rows.shape[1:])}, read as a vector: images are uint8")
        return flat

    def _info(self, name: str, rows: np.ndarray) -> np.ndarray:
        if rows.dtype.kind == "f":
            return self._vector(name, rows).reshape(len(rows), *(rows.shape[1:] or (1,)))
        return rows.reshape(len(rows), *(rows.shape[1:] or (1,)))

    def _actions(self, columns: dict[str, np.ndarray], options: ActionOptions) -> Acted:
        if self.action is None:
            return Acted(np.zeros((self.episodes.rows, 0), np.float32), ActionSpec("none"))
        taken = self.taken
        if taken is None:
            taken = np.ones(self.episodes.rows, bool)
            taken[np.cumsum(self.episodes.lengths) - 1] = False
        self.check_finite("action", np.where(taken.reshape(-1, *[1] * (self.action.ndim - 1)), self.action, 0))
        acted = told_by_data(self.action, taken, options, place=self.folder)
        self.check_finite("action", acted.rows)
        columns["action"] = acted.rows
        self.remarks += acted.remarks
        return acted

    def _rewards(self, reward: np.ndarray) -> np.ndarray:
        if reward.size != len(reward):
            raise DatasetError(f"{self.folder}: the reward has the shape {list(reward.shape[1:])} a row, expected one")
        with np.errstate(over="ignore"):
            flat = reward.reshape(-1).astype(np.float32)
        self.check_finite("reward", flat, reward)
        first = self.episodes.offsets
        if (flat[first] != 0).any():
            worst = int(np.argmax(flat[first] != 0))
            self.remarks.append(
                f"episode {self.episodes.ids[worst]} and others pay {flat[first[worst]]:g} in their first row, where "
                "nothing was done yet: it is read as 0"
            )
            flat[first] = 0
        return flat

    def check_finite(self, name: str, values: np.ndarray, stored: np.ndarray | None = None) -> None:
        """Raise DatasetError naming the place of the first number that is none, or too large for float32."""
        if (odd := first_odd(values, stored)) is not None:
            raise damaged(**self.place(odd[0]), what=f"{name} is {odd[1]}", way_out=WAY_OUT)


def observation_names(stored: Iterable[str]) -> dict[str, str]:
    """Return what stored columns are called as observations: a lone ``observation`` is what others call ``obs``.

    Where two came to one name, both keep their own.
    """
    stored = list(stored)
    called = {name: _observation_name(name) for name in stored}
    often = Counter(called.values())
    return {name: short if often[short] == 1 else name for name, short in called.items()}


def _observation_name(stored: str) -> str:
    for prefix in ("observations/", "observation/", "obs/", "observation.", "observations."):
        if stored.startswith(prefix) and len(stored) > len(prefix):
            return stored[len(prefix) :]
    return "obs" if stored in _ALONE else stored
