"""DreamerV3's replay: chunks ``TIME-UUID-SUCCESSOR-LENGTH.npz``, stitched to the streams that wrote them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.envs.spaces import image_layout
from worldflux.words.counts import counted

from ..recording import DatasetError, EpisodeTable, Recording
from .common.actions import OPTIONS, ActionOptions
from .common.guard import refuse_unknown
from .common.lines import Lines, observation_names
from .common.npz_files import NpzFiles, is_image, joined, npz_of

_NAME = re.compile(r"(\d{8}T\d{6}F\d+)-([0-9A-Za-z]+)-([0-9A-Za-z]+)-(\d{1,9})\.npz")
_FLAGS = ("is_first", "is_last", "is_terminal")
#: Kept by the replay for itself.
_BOOKKEEPING = ("stepid", "consec", "reset", "seed")
#: Latents of the model that acted, and what its environment logged.
_OTHERS = ("dyn/", "enc/", "dec/", "log/", "log_")


@dataclass(frozen=True)
class _Piece:
    """Rows ``start:stop`` of a stream (a list of files), an episode or what a cut left of one."""

    stream: int
    start: int
    stop: int
    begins: bool
    ends: bool


class DreamerV3:
    """A folder of replay chunks as DreamerV3 writes it; its rows are in the arrival convention already."""

    name = "dreamerv3"

    def detect(self, path: Path) -> bool:
        """Tell by the names of the files."""
        return path.is_dir() and any(_NAME.fullmatch(file.name) for file in path.glob("*.npz"))

    def open(self, path: Path, *, action: str = "action", cut: str = "drop", **options: Any) -> Recording:
        """Return the episodes of every stream, in the order in which the streams began.

        ``action`` names the column; ``cut="keep"`` keeps, as an episode of its own, what is left of one whose beginning
        is gone. Raises DatasetError for a folder that does not hang together, and for damaged chunks.
        """
        refuse_unknown(self.name, options, ("action", "cut", *OPTIONS))
        if cut not in ("drop", "keep"):
            raise ConfigurationError(f"cut is {cut!r}, expected 'drop' or 'keep'")
        files = npz_of(path)
        streams = _streams(files)
        chunks = NpzFiles(files, episodes=False)
        names = self._names(chunks, action)
        parts = chunks.load([name for name in names if not is_image(chunks.columns[0][name])])
        remarks: list[str] = []
        pieces = [piece for i, stream in enumerate(streams) for piece in _pieces(chunks, parts, i, stream)]
        pieces = _kept(pieces, cut, remarks)
        if not pieces:
            raise DatasetError(f"{path}: no episode begins in these chunks; cut='keep' reads what is left of some")
        lines = self._lines(path, chunks, parts, streams, pieces, names, action)
        lines.remarks += remarks + self._left_out(chunks, names)
        lines.provenance |= {"chunks": len(files), "streams": len(streams)}
        return lines.recording(ActionOptions.of(options))

    def _names(self, chunks: NpzFiles, action: str) -> list[str]:
        first = chunks.columns[0]
        for name in (*_FLAGS, action):
            if name not in first:
                raise chunks.wrong(0, f"column {name!r} is missing; it holds {', '.join(first)}")
        names = [name for name in first if name not in _BOOKKEEPING and not name.startswith(_OTHERS)]
        chunks.check_alike(names)
        for i, held in enumerate(chunks.columns):
            if more := [
                name for name in held if name not in first and name not in _BOOKKEEPING and not name.startswith(_OTHERS)
            ]:
                raise chunks.wrong(i, f"column {more[0]!r} is not in {chunks.files[0].name}")
            length = int(_NAME.fullmatch(chunks.files[i].name)[4])  # type: ignore[index]
            for name in names:
                if held[name].shape[0] != length:
                    raise chunks.wrong(
                        i, f"column {name!r} has {counted(held[name].shape[0], 'row')}, its name says {length}"
                    )
        return names

    def _left_out(self, chunks: NpzFiles, names: list[str]) -> list[str]:
        others = sorted({name for held in chunks.columns for name in held} - {*names, *_BOOKKEEPING})
        return [f"left out, as a model makes its own: {', '.join(others)}"] if others else []

    def _lines(
        self,
        path: Path,
        chunks: NpzFiles,
        parts: list[dict[str, np.ndarray]],
        streams: list[list[int]],
        pieces: list[_Piece],
        names: list[str],
        action: str,
    ) -> Lines:
        lengths = [len(part["is_first"]) for part in parts]
        block = [np.repeat(stream, [lengths[i] for i in stream]) for stream in streams]
        row = [np.concatenate([np.arange(lengths[i]) for i in stream]) for stream in streams]
        blocks = np.concatenate([block[p.stream][p.start : p.stop] for p in pieces])
        rows = np.concatenate([row[p.stream][p.start : p.stop] for p in pieces])
        line = np.cumsum(lengths) - lengths  # the first row of each file, all files in one line
        small = {name: joined(parts, name)[line[blocks] + rows] for name in parts[0]}
        ends = np.cumsum([p.stop - p.start for p in pieces])
        terminal = small["is_terminal"][ends - 1].astype(bool)
        ids = [f"{_uuid(chunks.files[block[p.stream][p.start]])}-{row[p.stream][p.start]}" for p in pieces]
        table = EpisodeTable.of(ids, [p.stop - p.start for p in pieces], terminal)
        taken = np.ones(int(ends[-1]), bool)
        taken[ends - 1] = [not p.ends for p in pieces]
        images = {name: chunks.columns[0][name] for name in names if is_image(chunks.columns[0][name])}
        called = observation_names(name for name in names if name not in (action, "reward", *_FLAGS))
        stored = {f"obs/{called[name]}": name for name in images}

        def place(at: int) -> Mapping[str, Any]:
            episode = int(np.searchsorted(ends, at, side="right"))
            return {"file": chunks.files[blocks[at]], "episode": episode, "row": at - int(table.offsets[episode])}

        return Lines(
            self.name,
            path,
            chunks.files,
            table,
            place,
            vectors={called[name]: rows for name, rows in small.items() if name in called},
            action=small[action],
            reward=small.get("reward"),
            images={called[name]: image_layout(one.shape[1:])[0] for name, one in images.items()},
            load=lambda name, index: chunks.images(stored[name], index),
            block=blocks.astype(np.int32),
            row=rows,
            taken=taken,
        )


def _uuid(file: Path) -> str:
    return _NAME.fullmatch(file.name)[2]  # type: ignore[index]


def _streams(files: list[Path]) -> list[list[int]]:
    """The files of each stream in its order, by their places in the list."""
    place: dict[str, int] = {}
    follows: dict[int, str] = {}
    for i, file in enumerate(files):
        if not (match := _NAME.fullmatch(file.name)):
            raise DatasetError(f"{file}: its name is not TIME-UUID-SUCCESSOR-LENGTH.npz, as the other chunks' are")
        if match[2] in place:
            raise DatasetError(f"{file}: {files[place[match[2]]].name} has the same id {match[2]}")
        place[match[2]], follows[i] = i, match[3]
    after = {i: place[name] for i, name in follows.items() if name in place}
    before: dict[int, int] = {}
    for i, successor in after.items():
        if successor in before:
            raise DatasetError(
                f"{files[i]}: its successor {files[successor].name} follows {files[before[successor]].name} already"
            )
        before[successor] = i
    streams = []
    for i in range(len(files)):
        if i not in before:
            streams.append([i])
            while (last := streams[-1][-1]) in after:
                streams[-1].append(after[last])
    if ring := sorted(set(range(len(files))) - {i for stream in streams for i in stream}):
        raise DatasetError(f"{files[ring[-1]]}: it and its successors form a ring: a stream has an end")
    return streams


def _pieces(chunks: NpzFiles, parts: list[dict[str, np.ndarray]], number: int, stream: list[int]) -> list[_Piece]:
    """The episodes of a stream. Raises DatasetError where the flags contradict each other."""
    first, last, terminal = (
        np.concatenate([parts[i][name].reshape(-1).astype(bool) for i in stream]) for name in _FLAGS
    )
    starts = np.cumsum([0, *(len(parts[i]["is_first"]) for i in stream)])

    def refuse(row: int, what: str) -> DatasetError:
        at = int(np.searchsorted(starts, row, side="right")) - 1
        return chunks.wrong(stream[at], what, row=row - int(starts[at]))

    if (terminal & ~last).any():
        raise refuse(int(np.argmax(terminal & ~last)), "is_terminal, but not is_last")
    after = np.concatenate([[False], last[:-1]])
    if (after & ~first).any():
        raise refuse(int(np.argmax(after & ~first)), "the row before it is an episode's last, but it is no first one")
    begin = np.flatnonzero(first | (np.arange(len(first)) == 0))
    end = np.append(begin[1:], len(first))
    return [_Piece(number, int(a), int(b), bool(first[a]), bool(last[b - 1])) for a, b in zip(begin, end) if b > a]


def _kept(pieces: list[_Piece], cut: str, remarks: list[str]) -> list[_Piece]:
    headless = [piece for piece in pieces if not piece.begins]
    if headless:
        rows = counted(sum(piece.stop - piece.start for piece in headless), "row")
        one, several = f"episode ({rows}) has lost its beginning", f"episodes ({rows}) have lost their beginning"
        done = "dropped" if cut == "drop" else "kept"
        remarks.append(f"{counted(len(headless), one, several)} with the chunk before, and what is left was {done}")
    if unfinished := sum(not piece.ends for piece in pieces):
        remarks.append(
            f"{counted(unfinished, 'episode is', 'episodes are')} unfinished or cut by a missing chunk: the last row "
            "there is ends it"
        )
    return pieces if cut == "keep" else [piece for piece in pieces if piece.begins]
