"""A video an episode: only the frames that are asked for leave the decoder, found by their time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..recording import damaged
from .guard import faults, need
from .images import as_images


class Videos:
    """One video for each episode, of ``lengths[i]`` frames, all of one size: ``shape`` is ``[H, W, 3]``.

    Raises DatasetError for a video that says it has fewer frames than its episode rows, or another size.
    """

    def __init__(self, files: Sequence[Path], lengths: Sequence[int], name: str) -> None:
        self._files, self._name = list(files), name
        self.shape: tuple[int, int, int] = (0, 0, 3)
        for i, (file, length) in enumerate(zip(files, lengths)):
            with faults(file, "the video", episode=i), self._opened(file) as video:
                stream = video.streams.video[0]
                shape, frames = (stream.height, stream.width, 3), stream.frames
            if frames and frames < length:
                raise damaged(file, f"it has {frames} frames for {length} rows", episode=i, row=frames)
            if i and shape != self.shape:
                raise damaged(file, f"its frames are {shape[:2]}, those of {files[0].name} {self.shape[:2]}", episode=i)
            if not shape[0] * shape[1] or shape[0] * shape[1] > 1 << 26:
                raise damaged(file, f"its frames are {shape[:2]}, which no picture is", episode=i)
            self.shape = shape

    @staticmethod
    def _opened(file: Path) -> Any:
        return need("av", "reading videos").open(str(file), "r", metadata_errors="ignore")

    def rows(self, episode: int, rows: np.ndarray) -> np.ndarray:
        """Return rows of an episode as ``[n, C, H, W]``. Raises DatasetError naming file, episode and row."""
        file, wanted = self._files[episode], set(rows.tolist())
        with faults(file, "the video", episode=episode, row=int(rows[0])), self._opened(file) as video:
            found = _frames(video, wanted, self.shape)
        missing = min(wanted - found.keys(), default=None)
        if missing is not None:
            raise damaged(file, "the video ends before this row", episode=episode, row=missing)
        return as_images(np.stack([found[row] for row in rows.tolist()]), self.shape)

    def close(self) -> None:
        """Nothing stays open."""


def _frames(video: Any, wanted: set[int], shape: tuple[int, int, int]) -> dict[int, np.ndarray]:
    """The frames of these numbers, counted in the order in which they are shown."""
    stream = video.streams.video[0]
    stream.thread_type = "NONE"
    per_frame = _ticks(stream)
    start = stream.start_time or 0
    if per_frame and min(wanted):
        video.seek(start + round(min(wanted) * per_frame), stream=stream, backward=True)
    found: dict[int, np.ndarray] = {}
    for shown, frame in enumerate(video.decode(stream)):
        number = shown if not per_frame or frame.pts is None else round((frame.pts - start) / per_frame)
        if number in wanted and number not in found:
            if (frame.height, frame.width) != shape[:2]:
                raise ValueError(f"frame {number} is {frame.height} x {frame.width}")
            found[number] = frame.to_ndarray(format="rgb24")
        if len(found) == len(wanted):
            break
    return found


def _ticks(stream: Any) -> float:
    """Ticks of the stream's clock between two frames; 0 where frames are not evenly apart, and must be counted."""
    rate, base = stream.average_rate, stream.time_base
    if not rate or not base or not stream.frames or not stream.duration:
        return 0.0
    ticks = float(1 / (rate * base))
    return ticks if abs(stream.duration - stream.frames * ticks) < 0.5 * ticks else 0.0
