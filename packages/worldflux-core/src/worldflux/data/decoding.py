"""One video file, open: its table of frames, and its decoder, which goes forward and jumps to keyframes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.words.counts import counted

from .extra import need

#: The container that a name promises. No other is tried: some are lists of further files, here or on another machine.
CONTAINERS = {
    ".mp4": "mov", ".m4v": "mov", ".mov": "mov", ".mkv": "matroska", ".webm": "matroska", ".avi": "avi", ".gif": "gif",
}  # fmt: skip
MAX_PIXELS = 1 << 26  # 8192 x 8192
NEAR = 4  # frames: a keyframe that is not further ahead is reached by decoding on, which is cheaper than a jump


class Undecodable(Exception):
    """What is wrong with a video; whoever knows the episode makes it a DatasetError."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


@dataclass(frozen=True)
class VideoIndex:
    """The frames of a file: their ``times`` in seconds, in the order they are shown, and those of the ``keys``.

    Times from a container's table are right where the frames are evenly spaced, or stored in the order they are shown;
    those from packets are always right.
    """

    times: np.ndarray
    keys: np.ndarray
    height: int
    width: int


class VideoDecoder:
    """Decodes one file. Raises Undecodable, also on opening; ``decoded`` counts what went through the decoder."""

    def __init__(self, file: Path) -> None:
        self._av = need("av", "reading video")
        self.decoded = 0
        self._file = file
        self._container: Any = None
        container = CONTAINERS.get(file.suffix.lower())
        if container is None:
            raise Undecodable(f"is no video that is known by its name ({', '.join(CONTAINERS)})")
        if not file.is_file():
            raise Undecodable("is not there" if not file.exists() else "is no plain file")
        try:
            with self._translated():
                self._open(container)
                self.index = self._table() or self.packets()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def frame(self, time: float, tolerance: float, shape: tuple[int, ...]) -> np.ndarray:
        """Return the frame at ``time`` as uint8 ``shape`` = ``(C, H, W)``."""
        with self._translated():
            if not self._on_the_way(time, tolerance):
                self._jump(time, tolerance)
            while self._time < time - tolerance and self._advance():
                pass
            if not abs(self._time - time) <= tolerance:
                count, end = len(self.index.times), self.index.times[-1]
                raise Undecodable(
                    f"has no frame at {time:.6g} s (the nearest that decodes is at {self._time:.6g} s; its table lists "
                    f"{counted(count, 'frame')}, the last at {end:.6g} s)"
                )
            return self._pixels(shape)

    def packets(self) -> VideoIndex:
        """Return the index made from every packet of the file, none of them decoded."""
        times: list[int] = []
        keys: list[int] = []
        with self._translated():
            self._rewind()
            for packet in self._container.demux(self._stream):
                if packet.is_corrupt:
                    raise Undecodable(f"is cut short or damaged at frame {len(times)}")
                if packet.size and packet.pts is not None:
                    times.append(packet.pts)
                    keys += [packet.pts] if packet.is_keyframe else []
            self._rewind()
        return self._index(times, keys)

    def _open(self, container: str) -> None:
        {"mov": _check_boxes, "gif": _check_blocks}.get(container, lambda file: None)(self._file)
        # an absolute name is never taken for an address
        self._container = self._av.open(str(self._file.absolute()), format=container, metadata_errors="ignore")
        if not self._container.streams.video:
            raise Undecodable("has no video in it")
        self._stream = self._container.streams.video[0]
        codec = self._stream.codec_context
        if codec is None:
            raise Undecodable("is cut short, or of a codec that PyAV has no decoder for")
        # one thread, so that nothing is decoded ahead, and what is damaged is refused, not made up
        codec.thread_count = 1
        codec.options = {"err_detect": "explode", "max_pixels": str(MAX_PIXELS)}
        self._base = float(self._stream.time_base or 0)
        if not (self._base > 0 and 0 < codec.width * codec.height <= MAX_PIXELS):
            raise Undecodable(f"says that its frames are {codec.width} x {codec.height}, {self._base} s apart at least")
        self._reformatter = self._av.video.reformatter.VideoReformatter()
        self._settle()

    def _settle(self) -> None:
        """Forget the frame that was decoded last."""
        self._frame: Any = None
        self._time = -math.inf
        self._coming: Iterator[Any] = iter(())

    def _rewind(self) -> None:
        self._settle()
        self._container.seek(0 if self._stream.start_time is None else self._stream.start_time, stream=self._stream)

    def _table(self) -> VideoIndex | None:
        """Return the index from the container's own table, if that lists every frame."""
        entries = list(getattr(self._stream, "index_entries", None) or ())  # av >= 17 shows it
        if len(entries) < 2 or len(entries) != self._stream.frames:
            return None
        end = max(entry.pos + entry.size for entry in entries)
        size = self._file.stat().st_size
        if end > size:
            raise Undecodable(f"is cut short: its frames end at byte {end:,}, the file has {size:,}")
        # the table has the order of decoding; shown is the same ladder of times from the first one on
        shift = (self._stream.start_time or 0) - entries[0].timestamp
        times = [entry.timestamp + shift for entry in entries]
        return self._index(times, [time for time, entry in zip(times, entries, strict=True) if entry.is_keyframe])

    def _index(self, times: list[int], keys: list[int]) -> VideoIndex:
        if not times:
            raise Undecodable("has no frame in it")
        if len(set(times)) < len(times):
            raise Undecodable("has two frames at one time")
        codec = self._stream.codec_context
        seconds = [np.sort(np.array(ticks, np.float64)) * self._base for ticks in (times, keys)]
        return VideoIndex(seconds[0], seconds[1], codec.height, codec.width)

    def _on_the_way(self, time: float, tolerance: float) -> bool:
        """Whether decoding on from where we are is the way to ``time``."""
        if self._frame is None or self._time > time + tolerance:
            return False
        keys, times = self.index.keys, self.index.times
        before = keys[: np.searchsorted(keys, time + tolerance, side="right")]
        interval = (times[-1] - times[0]) / max(1, len(times) - 1)
        return not len(before) or before[-1] <= self._time + NEAR * interval

    def _jump(self, time: float, tolerance: float) -> None:
        """Go to the first frame that decodes from the keyframe before ``time``, or from one further back."""
        start, back = float(self.index.times[0]), 0.0
        end = float(self.index.times[-1])
        while True:
            target = min(max(time + tolerance - back, start), end + tolerance)
            self._settle()
            self._container.seek(int(target / self._base), stream=self._stream, backward=True)
            self._coming = self._decoding()
            if (self._advance() and self._time <= time + tolerance) or target <= start:
                return
            back = 4 * back or max(1.0, 4 * tolerance)  # frames before this keyframe, or none that decodes alone

    def _advance(self) -> bool:
        """Decode the next frame; false at the end of the file."""
        for frame in self._coming:
            self._frame, self._time = frame, frame.pts * self._base
            return True
        return False

    def _decoding(self) -> Iterator[Any]:
        for packet in self._container.demux(self._stream):
            if packet.is_corrupt:
                raise Undecodable(f"is cut short or damaged at {float((packet.pts or 0) * self._base):.6g} s")
            self.decoded += bool(packet.size)
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise Undecodable(f"has a damaged frame at {float((frame.pts or 0) * self._base):.6g} s")
                if frame.pts is not None:
                    yield frame

    def _pixels(self, shape: tuple[int, ...]) -> np.ndarray:
        frame = self._frame
        assert frame is not None
        if (frame.height, frame.width) != shape[1:]:
            raise Undecodable(
                f"has a frame of {frame.height} x {frame.width} pixels at {self._time:.6g} s, expected "
                f"{shape[1]} x {shape[2]} (height x width)"
            )
        pixels = self._reformatter.reformat(frame, format="rgb24" if shape[0] == 3 else "gray").to_ndarray()
        return np.moveaxis(pixels, -1, 0) if shape[0] == 3 else pixels[None]

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Make what the library raises an Undecodable."""
        try:
            yield
        except (self._av.error.FFmpegError, ValueError, OverflowError, MemoryError, OSError) as error:
            text = getattr(error, "strerror", None) or str(error)
            raise Undecodable(f"cannot be decoded ({text})") from error


def _check_boxes(file: Path) -> None:
    """Raise Undecodable unless every outermost box of an MP4 file ends within it: a cut tail would go unnoticed."""
    size, at = file.stat().st_size, 0
    with file.open("rb") as handle:
        while at < size:
            handle.seek(at)
            head = handle.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:  # the length is a long one, behind the name
                length = int.from_bytes(head[8:], "big")
            elif length == 0:  # up to the end of the file
                return
            if length < 8 or at + length > size:
                raise Undecodable(f"is cut short or damaged: its part at byte {at:,} does not end in it")
            at += length


def _check_blocks(file: Path) -> None:
    """Raise Undecodable unless a GIF is whole blocks up to its end: decoders make up what is missing."""
    data = file.read_bytes()

    def table(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    at = 13 + table(data[10]) if len(data) > 13 else len(data)
    while data[at : at + 1] in (b"\x21", b"\x2c"):
        # an extension has a label; a picture its place, its colours and how its first code is packed
        at += 2 if data[at] == 0x21 else 11 + table(data[at + 9] if at + 9 < len(data) else 0)
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
    if data[at : at + 1] != b"\x3b":
        raise Undecodable(f"is cut short or damaged: no block of a GIF begins at byte {at:,}")
