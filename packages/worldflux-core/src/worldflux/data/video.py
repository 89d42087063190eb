"""Frames of video files: those that are asked for are decoded, and as few others as the codec allows.

A frame is found by its time. Files stay open with their decoders, the ones used last first to stay; what goes on where
the last read ended is decoded on, everything else starts at the keyframe before. Several threads may read at once, each
with a decoder of its own; after a fork, or in a process the object was pickled to, files are opened again.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .decoding import Undecodable, VideoDecoder, VideoIndex
from .recording import damaged


class Videos:
    """Decodes frames of any number of video files, of which it keeps at most ``open_files`` open.

    ``decoded`` counts the frames that went through a decoder, wanted or on the way to a wanted one.
    """

    def __init__(self, *, open_files: int = 16) -> None:
        self.open_files = open_files
        self.decoded = 0
        self._indexes: dict[tuple[Path, bool], VideoIndex] = {}
        self._renew()

    def _renew(self) -> None:
        self._lock, self._process = threading.Lock(), os.getpid()
        self._idle: OrderedDict[Path, VideoDecoder] = OrderedDict()

    def index(self, file: Path, *, exact: bool = False, episode: int | str | None = None) -> VideoIndex:
        """Return how many frames a file has, when, and where its keyframes are, without decoding any.

        From the container's own table where it has one (MP4), otherwise, and where ``exact`` times are asked for, from
        the packets of the whole file. Raises DatasetError naming the file, and the ``episode`` if given, for a file
        that is missing, cut short or no video.
        """
        key = (file, exact)
        if key not in self._indexes:
            decoder = self._take(file, episode)
            try:
                self._indexes[key] = decoder.packets() if exact else decoder.index
            except Undecodable as error:
                decoder.close()
                raise damaged(file, error.what, episode=episode, way_out=_WAY_OUT) from error
            self._put(file, decoder)
        return self._indexes[key]

    def at(
        self,
        file: Path,
        times: Sequence[float] | np.ndarray,
        *,
        tolerance: float,
        shape: Sequence[int],
        episode: int | str | None = None,
        rows: Sequence[int] | np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the frames at ``times`` ``[n]`` (seconds, ascending, repeats allowed), uint8 ``[n, C, H, W]``.

        ``shape`` is ``(C, H, W)``, C being 3 (RGB) or 1; a frame counts as being at a time that it is at most
        ``tolerance`` seconds away from. ``episode`` and ``rows`` ``[n]`` are only for the errors to name.

        Raises DatasetError if a frame is not there, is damaged or of another size.
        """
        out = np.empty((len(times), *shape), np.uint8)
        decoder = self._take(file, episode)
        before = decoder.decoded
        at = 0
        try:
            for at, time in enumerate(times):
                out[at] = decoder.frame(float(time), tolerance, tuple(shape))
        except Undecodable as error:
            decoder.close()
            row = None if rows is None else int(rows[at])
            raise damaged(file, error.what, episode=episode, row=row, way_out=_WAY_OUT) from error
        except BaseException:
            decoder.close()
            raise
        finally:
            with self._lock:
                self.decoded += decoder.decoded - before
        self._put(file, decoder)
        return out

    def close(self) -> None:
        """Close every file; a later read opens what it needs again."""
        with self._lock:
            idle, self._idle = self._idle, OrderedDict()
        for decoder in idle.values():
            decoder.close()

    def _take(self, file: Path, episode: int | str | None) -> VideoDecoder:
        """Return a decoder that nobody else has, open at ``file``."""
        if self._process != os.getpid():  # a fork: the parent's decoders, and perhaps a lock that nobody will give back
            self._renew()
        with self._lock:
            decoder = self._idle.pop(file, None)
        try:
            return decoder or VideoDecoder(file)
        except Undecodable as error:
            raise damaged(file, error.what, episode=episode, way_out=_WAY_OUT) from error

    def _put(self, file: Path, decoder: VideoDecoder) -> None:
        """Keep a decoder for the next read, and close those that were not used for longest."""
        with self._lock:
            closing = [self._idle.pop(file)] if file in self._idle else []
            self._idle[file] = decoder
            while len(self._idle) > max(1, self.open_files):
                closing.append(self._idle.popitem(last=False)[1])
        for one in closing:
            one.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"open_files": self.open_files, "decoded": 0, "_indexes": self._indexes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._renew()


_WAY_OUT = "fetch or record this file again, or leave the episode out where the data is made"
