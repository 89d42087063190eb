"""One video an episode, whose k-th frame is the episode's k-th row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from worldflux.words.counts import counted

from ...recording import damaged
from ...video import Videos


class ClipFrames:
    """The frames of a video for each episode, decoded as they are asked for; ``shape`` is ``(3, H, W)``.

    Raises DatasetError, from the files' tables and without decoding, for a file that has not as many frames as
    ``lengths`` says (or fewer, if there may be ``more``), or of another size than those before.
    """

    def __init__(self, files: Sequence[Path], lengths: Sequence[int], videos: Videos, *, more: bool = False) -> None:
        self.files, self.videos = list(files), videos
        self.shape: tuple[int, int, int] = (3, 0, 0)
        for episode, (file, length) in enumerate(zip(files, lengths, strict=True)):
            index = videos.index(file, episode=episode)
            if len(index.times) < length or (len(index.times) > length and not more):
                raise damaged(
                    file, f"has {counted(len(index.times), 'frame')}, its episode has {counted(length, 'row')}",
                    episode=episode, row=min(len(index.times), length),
                    way_out="every row needs its own frame, and every frame its row",
                )  # fmt: skip
            shape = (3, index.height, index.width)
            if episode and shape != self.shape:
                raise damaged(
                    file, f"its frames are {shape[1]} x {shape[2]}, those before {self.shape[1]} x {self.shape[2]}",
                    episode=episode, way_out="resize the clips to one size first",
                )  # fmt: skip
            self.shape = shape

    def rows(self, episode: int, rows: np.ndarray) -> np.ndarray:
        """Return frames ``[n, C, H, W]``, however far apart in time they are. Raises DatasetError."""
        file = self.files[episode]
        times = self.videos.index(file, exact=True, episode=episode).times
        if len(rows) and rows.max() >= len(times):
            raise damaged(file, f"has {counted(len(times), 'frame')}", episode=episode, row=len(times))
        near = float(np.diff(times).min()) / 4 if len(times) > 1 else 1.0
        return self.videos.at(file, times[rows], tolerance=near, shape=self.shape, episode=episode, rows=rows)

    def close(self) -> None:
        """Close the videos."""
        self.videos.close()
