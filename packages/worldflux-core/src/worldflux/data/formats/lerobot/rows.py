"""The rows of a LeRobotDataset's tables: its numbers, read and checked, and where its pictures stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.words.counts import counted

from ...recording import damaged
from ..common.columns import WAY_OUT, first_odd
from ..common.tables import dense, open_parquet, read_columns
from .episodes import Episode
from .info import Feature, Info

KEEPING = ("episode_index", "frame_index", "index", "timestamp")


@dataclass(frozen=True)
class Rows:
    """Numbers of all frames in one line, by feature, ``[frames, *shape]``, and each frame's row in its own file."""

    columns: dict[str, np.ndarray]
    places: np.ndarray


def read_rows(info: Info, episodes: Sequence[Episode], wanted: Iterable[Feature]) -> Rows:
    """Return some features of every frame. Raises DatasetError naming file, episode and row."""
    wanted = list(wanted)
    parts: list[dict[str, np.ndarray]] = []
    places = []
    for file, those in _by_file(episodes).items():
        columns, order = _File(info, file, those).read(wanted)
        parts.append(columns)
        places.append(order)
    columns = {one.key: np.concatenate([part.pop(one.key) for part in parts]) for one in wanted}
    return Rows(columns, np.concatenate(places))


def _by_file(episodes: Sequence[Episode]) -> dict[Path, list[Episode]]:
    files: dict[Path, list[Episode]] = {}
    last = None
    for one in episodes:
        if one.data != last and one.data in files:
            raise damaged(one.data, "holds this episode and earlier ones, but not those between", episode=one.index)
        files.setdefault(one.data, []).append(one)
        last = one.data
    return files


class _File:
    """One table, which holds the rows of some episodes."""

    def __init__(self, info: Info, file: Path, episodes: Sequence[Episode]) -> None:
        self.info, self.file, self.episodes = info, file, episodes
        self.named = episodes[0].index if len(episodes) == 1 else None  # the episode of a fault in the file as a whole
        self.numbers = np.repeat([one.index for one in episodes], [one.length for one in episodes])
        self.frames = np.concatenate([np.arange(one.length) for one in episodes])

    def read(self, wanted: Sequence[Feature]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the numbers of every frame and its row, in the order of the episodes."""
        opened = open_parquet(self.file, episode=self.named)
        arrow = read_columns(opened, self.file, [*KEEPING, *(one.key for one in wanted)], episode=self.named)
        unknown = [name for name in opened.schema_arrow.names if name not in self.info.features]
        if unknown:
            raise damaged(
                self.file, f"has the column {unknown[0]!r}, meta/info.json has no such feature", episode=self.named
            )
        order = self._order(self._plain("episode_index", arrow["episode_index"]))
        self._check_time({name: self._plain(name, arrow[name])[order] for name in KEEPING[1:]})
        columns = {}
        for one in wanted:
            later = one.key.startswith("next.")  # what is known on arriving at the next row
            shape = () if one.shape == (1,) and one.key == "task_index" else one.shape
            refuse = lambda row, what, one=one, later=later: self._fault(order, row, f"{one.key} {what}", later)
            values = dense(arrow[one.key], shape, refuse)
            columns[one.key] = self._finite(one, values[order], later)
        return columns, order

    def _plain(self, name: str, column: Any) -> np.ndarray:
        refuse = lambda row, what: damaged(self.file, f"row {row}: {name} {what}", episode=self.named)
        return dense(column, (), refuse)

    def _order(self, found: np.ndarray) -> np.ndarray:
        """Return the rows in the order of the episodes, each in the order of the file."""
        order = np.argsort(found, kind="stable")
        if len(found) == len(self.numbers) and (found[order] == self.numbers).all():
            return order
        for number, count in zip(*np.unique(found, return_counts=True), strict=True):
            known = [one for one in self.episodes if one.index == number]
            if not known:
                raise damaged(
                    self.file, f"has {counted(count, 'row')} of episode {number}, which is not said to be in it"
                )
            if known[0].length != count:
                raise self._miscounted(known[0], int(count))
        raise self._miscounted(next(one for one in self.episodes if one.index not in found), 0)

    def _miscounted(self, one: Episode, count: int) -> Exception:
        return damaged(
            self.file, f"has {counted(count, 'row')} of this episode, meta/episodes says {one.length}",
            episode=one.index, way_out="take the set from where it came from, whole",
        )  # fmt: skip

    def _check_time(self, found: dict[str, np.ndarray]) -> None:
        """Raise DatasetError unless frames are counted from 0 on, a frame's time apart."""
        first = np.repeat([one.first for one in self.episodes], [one.length for one in self.episodes])
        right = {
            "frame_index": found["frame_index"] == self.frames,
            "index": found["index"] == first + self.frames,
            "timestamp": np.abs(found["timestamp"] - self.frames / self.info.fps) < 0.25 / self.info.fps,
        }
        for name, good in right.items():
            if not good.all():
                at = int(np.argmin(good))
                raise damaged(
                    self.file, f"{name} is {found[name][at]}: expected frames one after another at {self.info.fps:g} "
                    "a second, none twice", episode=int(self.numbers[at]), row=int(self.frames[at]),
                )  # fmt: skip

    def _finite(self, feature: Feature, values: np.ndarray, later: bool) -> np.ndarray:
        if values.dtype.kind != "f":
            return values
        with np.errstate(over="ignore"):
            small = values.astype(np.float32)
        if (odd := first_odd(small, values)) is not None:
            at, bad = odd
            raise damaged(
                self.file, f"{feature.key} is {bad}", episode=int(self.numbers[at]), row=int(self.frames[at]) + later,
                way_out=WAY_OUT,
            )  # fmt: skip
        return small

    def _fault(self, order: np.ndarray, row: int, what: str, later: bool) -> Exception:
        at = int(np.argmax(order == row))
        return damaged(self.file, what, episode=int(self.numbers[at]), row=int(self.frames[at]) + later)
