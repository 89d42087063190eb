"""The pictures of a LeRobotDataset: out of videos by time, or out of a column of encoded images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.words.counts import counted

from ...recording import damaged
from ...video import Videos
from ..common.guard import faults
from ..common.images import decoded
from ..common.kept import Kept
from ..common.tables import open_parquet, read_columns
from .episodes import Episode
from .info import Feature


class VideoFrames:
    """A camera in videos: frame k of an episode is the one shown at ``from_timestamp + k / fps``."""

    def __init__(self, feature: Feature, episodes: Sequence[Episode], fps: float, videos: Videos) -> None:
        self.feature, self.episodes, self.fps, self.videos = feature, episodes, fps, videos

    def rows(self, episode: int, rows: np.ndarray) -> np.ndarray:
        """Return frames ``[n, C, H, W]``. Raises DatasetError naming file, episode and row."""
        file, begin = self.episodes[episode].videos[self.feature.key]
        return self.videos.at(
            file, begin + rows / self.fps, tolerance=0.25 / self.fps, shape=self.feature.frame, episode=episode,
            rows=rows,
        )  # fmt: skip

    def check(self) -> tuple[str, ...]:
        """Hold the tables of all videos to the episodes', nothing is decoded; return what is to be said of them.

        Raises DatasetError naming the file, the episode and the first row without a frame.
        """
        frames = keys = 0
        seen: set[Path] = set()
        for one in self.episodes:
            file, begin = one.videos[self.feature.key]
            index = self.videos.index(file, episode=one.index)
            if (index.height, index.width) != self.feature.frame[1:]:
                raise damaged(
                    file, f"its frames are {index.height} x {index.width}, meta/info.json says "
                    f"{self.feature.frame[1]} x {self.feature.frame[2]}", episode=one.index,
                )  # fmt: skip
            wanted = begin + np.arange(one.length) / self.fps
            near = np.searchsorted(index.times, wanted - 0.25 / self.fps)
            there = index.times[np.minimum(near, len(index.times) - 1)]
            good = np.abs(there - wanted) <= 0.25 / self.fps
            if not good.all():
                row = int(np.argmin(good))
                raise damaged(
                    file, f"has no frame at {wanted[row]:.6g} s: it has {len(index.times)}, the last at "
                    f"{index.times[-1]:.6g} s", episode=one.index, row=row,
                    way_out="take the file from where it came from, whole",
                )  # fmt: skip
            if file not in seen:
                seen.add(file)
                frames, keys = frames + len(index.times), keys + len(index.keys)
        if frames <= 32 * keys:
            return ()
        return (
            f"{self.feature.name}: a keyframe in {counted(round(frames / max(1, keys)), 'frame')}, so that a window "
            "decodes up to as many before its first: encode with one in 2 to 16, or convert the set",
        )

    def close(self) -> None:
        """Close the videos."""
        self.videos.close()


class Pictures:
    """A camera in a column of PNG or JPEG files: the rows of a group are read together, those asked for decoded."""

    def __init__(self, feature: Feature, episodes: Sequence[Episode], places: np.ndarray) -> None:
        self.feature, self.episodes, self.places = feature, episodes, places
        self._starts: dict[Path, np.ndarray] = {}
        self._groups = Kept()

    def rows(self, episode: int, rows: np.ndarray) -> np.ndarray:
        """Return frames ``[n, C, H, W]``. Raises DatasetError naming file, episode and row."""
        one = self.episodes[episode]
        out = np.empty((len(rows), *self.feature.frame), np.uint8)
        for i, row in enumerate(rows):
            if i and row == rows[i - 1]:
                out[i] = out[i - 1]
                continue
            data = self._encoded(one, int(self.places[one.first + row]), int(row))
            with faults(one.data, f"the picture {self.feature.key}", episode=episode, row=int(row)):
                channels, high, wide = self.feature.frame
                out[i] = np.moveaxis(decoded(data, (high, wide, channels)), -1, 0)
        return out

    def close(self) -> None:
        """Forget the groups that were read."""
        self._groups.clear()

    def _encoded(self, one: Episode, place: int, row: int) -> bytes:
        """Return the bytes of the picture in row ``place`` of the episode's file."""
        starts = self._starts.get(one.data)
        if starts is None:
            head = open_parquet(one.data, episode=one.index).metadata
            counts = [head.row_group(group).num_rows for group in range(head.num_row_groups)]
            starts = self._starts[one.data] = np.concatenate([[0], np.cumsum(counts)])
        group = int(np.searchsorted(starts, place, side="right")) - 1
        column = self._groups.get((one.data, group), lambda: self._group(one, group))
        data = column[place - int(starts[group])].as_py()
        data = data.get("bytes") if isinstance(data, dict) else data
        if not isinstance(data, bytes):
            raise damaged(one.data, f"{self.feature.key} holds no picture in this row", episode=one.index, row=row)
        return data

    def _group(self, one: Episode, group: int) -> Any:
        key = self.feature.key
        opened = open_parquet(one.data, episode=one.index)
        return read_columns(opened, one.data, [key], episode=one.index, group=group)[key]
