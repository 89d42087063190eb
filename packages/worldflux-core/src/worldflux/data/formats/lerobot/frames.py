"""The pictures of a LeRobotDataset: out of videos by time, or out of a column of encoded images."""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...recording import damaged
from ...video import Videos
from ..guard import faults, need
from ..tables import open_parquet, read_columns
from .episodes import Episode
from .info import Feature

GROUPS = 4  # groups of rows whose encoded pictures are kept


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
        counted: set[Path] = set()
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
            if file not in counted:
                counted.add(file)
                frames, keys = frames + len(index.times), keys + len(index.keys)
        if frames <= 32 * keys:
            return ()
        return (
            f"{self.feature.name}: a keyframe in {frames / max(1, keys):.0f} frames, so that a window decodes up to as "
            "many before its first: encode with one in 2 to 16, or convert the set",
        )

    def close(self) -> None:
        """Close the videos."""
        self.videos.close()


class Pictures:
    """A camera in a column of PNG or JPEG files: the rows of a group are read together, those asked for decoded."""

    def __init__(self, feature: Feature, episodes: Sequence[Episode], places: np.ndarray) -> None:
        self.feature, self.episodes, self.places = feature, episodes, places
        self._starts: dict[Path, np.ndarray] = {}
        self._renew()

    def _renew(self) -> None:
        self._lock, self._process = threading.Lock(), os.getpid()
        self._groups: OrderedDict[tuple[Path, int], Any] = OrderedDict()

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
                out[i] = picture(data, self.feature.frame)
        return out

    def close(self) -> None:
        """Forget the groups that were read."""
        self._renew()

    def _encoded(self, one: Episode, place: int, row: int) -> bytes:
        """Return the bytes of the picture in row ``place`` of the episode's file."""
        if self._process != os.getpid():  # a fork: perhaps a lock that nobody will give back
            self._renew()
        with self._lock:
            starts = self._starts.get(one.data)
            if starts is None:
                head = open_parquet(one.data, episode=one.index).metadata
                counts = [head.row_group(group).num_rows for group in range(head.num_row_groups)]
                starts = self._starts[one.data] = np.concatenate([[0], np.cumsum(counts)])
            group = int(np.searchsorted(starts, place, side="right")) - 1
            column = self._groups.pop((one.data, group), None)
            if column is None:
                opened = open_parquet(one.data, episode=one.index)
                column = read_columns(opened, one.data, [self.feature.key], episode=one.index, group=group)
            self._groups[one.data, group] = column
            if len(self._groups) > GROUPS:
                self._groups.popitem(last=False)
        data = column[self.feature.key][place - int(starts[group])].as_py()
        data = data.get("bytes") if isinstance(data, dict) else data
        if not isinstance(data, bytes):
            raise damaged(one.data, f"{self.feature.key} holds no picture in this row", episode=one.index, row=row)
        return data

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_groups")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._renew()


def picture(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Return an encoded picture as uint8 ``shape`` = ``(C, H, W)``. Raises ValueError or OSError for any other."""
    images = need("PIL.Image", "reading pictures")
    _check_sums(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with images.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if image.size != (shape[2], shape[1]):
                raise ValueError(f"it is {image.size[1]} x {image.size[0]}, expected {shape[1]} x {shape[2]}")
            pixels = np.asarray(image.convert("RGB" if shape[0] == 3 else "L"), np.uint8)
    return np.moveaxis(pixels, -1, 0) if shape[0] == 3 else pixels[None]


def _check_sums(data: bytes) -> None:
    """Raise ValueError for a PNG with a part that its own checksum does not fit; Pillow does not look at pixels'."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return
    at, kind = 8, b""
    while at < len(data) and kind != b"IEND":
        if at + 12 > len(data):
            raise ValueError("it is cut short")
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        end = at + 8 + length
        if zlib.crc32(data[at + 4 : end]).to_bytes(4, "big") != data[end : end + 4]:
            raise ValueError(f"its part {kind!r} does not fit its checksum")
        at = end + 4
    if kind != b"IEND":
        raise ValueError("it is cut short")
