"""Reading a dataset of WorldFlux: nothing is loaded before it is asked for."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.errors import CheckpointError
from worldflux.file_sets import saved, steady
from worldflux.files import sha256

from ..formats.common.guard import refuse_unknown
from ..npy import map_npy
from ..recording import DatasetError, EpisodeTable, Recording, damaged
from .blocks import Threads
from .columns import Rows, map_column, open_column
from .page import EPISODES, FORMAT, HASHES, IDS, PAGE, SHARDS, Page, read_page
from .shards import check

OPEN_COLUMNS = 512  # each takes a descriptor of the system while it is mapped
THREADED = 1 << 20  # bytes of a batch from which it is worth to read and unpack in threads
SMALL = 64 << 20  # bytes that are hashed when the dataset is opened, which takes a fraction of a second
START, LENGTH, TERMINAL, STAND_IN, SOURCE = range(5)  # the columns of episodes.npy, int64


@dataclass
class Native(Recording):
    """A dataset of WorldFlux, its columns read as they are asked for; ``columns`` is empty."""

    page: Page | None = None
    sources: np.ndarray | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        assert self.page is not None
        self._fields = self.page.fields()
        self._shards = self.page.shards
        self._first_rows = np.cumsum([0, *(shard.rows for shard in self._shards)])
        self._first_episodes = np.cumsum([0, *(shard.episodes for shard in self._shards)])
        self._open: OrderedDict[tuple[int, str], Rows] = OrderedDict()
        self._threads = Threads()

    @property
    def has_rewards(self) -> bool:
        """Whether the rows hold rewards."""
        return "reward" in self._fields

    @property
    def names(self) -> tuple[str, ...]:
        """Every column that ``read`` gives."""
        return tuple(self._fields)

    @property
    def fingerprint(self) -> str:
        """What tells this data from other data: every file of every shard, by its hash."""
        digest = hashlib.sha256()
        for shard in self._shards:
            digest.update(repr(sorted(shard.files.items())).encode())
        return digest.hexdigest()

    @property
    def frame_stack(self) -> Mapping[str, int]:
        """The images that are stored as single frames, each with how many are shown."""
        assert self.page is not None
        return self.page.frame_stack

    def read(self, name: str, episode: int, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Return rows ``start:stop:step`` of a column in one episode. Raises DatasetError for damaged data."""
        length, stack = int(self.episodes.lengths[episode]), self._stack(name)
        shard = int(np.searchsorted(self._first_episodes, episode, side="right")) - 1
        first = int(self._offsets[episode] - self._first_rows[shard])
        stop, before = min(stop, length), min(start, stack - 1)  # the frames that are shown with the first one
        rows = self._column(shard, name).read(first + start - before, first + stop)
        if start == 0 and stop == length:
            self._check(name, episode, rows)
        return shown(rows, before, stack, step)

    def gather(self, name: str, episodes: np.ndarray, starts: np.ndarray, length: int, step: int = 1) -> np.ndarray:
        """Return ``[B, length, ...]``: of each episode ``length`` rows from its start on, ``step`` apart."""
        spec, span, stack = self._fields[name], (length - 1) * step + 1, self._stack(name)
        shape = (stack * spec.shape[0], *spec.shape[1:]) if stack > 1 else spec.shape
        out = np.empty((len(episodes), length, *shape), spec.dtype)
        firsts = self._offsets[episodes] + starts
        shards = np.searchsorted(self._first_rows, firsts, side="right") - 1
        columns = {shard: self._column(shard, name) for shard in set(shards.tolist())}
        firsts = firsts - self._first_rows[shards]
        if stack == 1 and out.nbytes < THREADED:
            for into, shard, first in zip(out, shards.tolist(), firsts.tolist(), strict=True):
                into[...] = columns[shard].read(first, first + span)[::step]
            return out

        def fill(job: tuple[np.ndarray, int, int, int]) -> None:
            into, shard, first, start = job
            before = min(start, stack - 1)
            rows = columns[shard].read(first - before, first + span)
            into[...] = shown(rows, before, stack, step)

        self._threads.map(fill, list(zip(out, shards.tolist(), firsts.tolist(), starts.tolist(), strict=True)))
        return out

    def verify(self) -> Iterator[DatasetError]:
        """Give what is wrong, file by file, naming the episodes it concerns; nothing for a sound dataset."""
        for number, shard in enumerate(self._shards):
            for file, digest in shard.files.items():
                place = self.place / SHARDS / shard.name / file
                try:
                    sound = sha256(place) == digest
                except OSError as error:
                    yield damaged(place, f"it cannot be read: {error}", episode=self._named(number))
                    continue
                if not sound:
                    yield self._explained(number, place, file)

    def close(self) -> None:
        """Close every file and end the threads."""
        self._open.clear()
        self._threads.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def _stack(self, name: str) -> int:
        return self.frame_stack.get(name.removeprefix("obs/"), 1) if name.startswith("obs/") else 1

    def _column(self, shard: int, name: str) -> Rows:
        found = self._open.get((shard, name))
        if found is None:
            found = self._open[shard, name] = open_column(self.place, self._shards[shard], name, self._fields[name])
            while len(self._open) > OPEN_COLUMNS:
                self._open.popitem(last=False)
        return found

    def _check(self, name: str, episode: int, rows: np.ndarray) -> None:
        shard = int(np.searchsorted(self._first_episodes, episode, side="right")) - 1
        if check(rows) != self._checks(shard)[episode - self._first_episodes[shard], self.names.index(name)]:
            place = self.place / SHARDS / self._shards[shard].name / self._shards[shard].columns[name].file
            raise damaged(
                place, f"{name} was altered", episode=self.episodes.ids[episode],
                way_out="take the file from a copy of the dataset",
            )  # fmt: skip

    def _checks(self, number: int) -> np.ndarray:
        shard = self._shards[number]
        shape = (shard.episodes, len(self._fields))
        return map_column(self.place / SHARDS / shard.name / HASHES, HASHES, shape, np.dtype(np.uint32))

    def _named(self, number: int) -> str:
        """The episodes of a shard, in words."""
        ids = self.episodes.ids[self._first_episodes[number] : self._first_episodes[number + 1]]
        return repr(ids[0]) if len(ids) == 1 else f"{ids[0]!r} to {ids[-1]!r}"

    def _explained(self, number: int, place: Path, file: str) -> DatasetError:
        """The error for a file whose hash is another: with the first episode whose rows are."""
        named = [name for name, column in self._shards[number].columns.items() if column.file == file]
        first, last = self._first_episodes[number : number + 2]
        for name in named:
            for episode in range(first, last):
                try:
                    self.read(name, episode, 0, int(self.episodes.lengths[episode]))
                except DatasetError:
                    return damaged(place, f"{name} was altered: its hash differs", episode=self.episodes.ids[episode])
        return damaged(place, "it was altered: its hash differs", episode=self._named(number))


def shown(rows: np.ndarray, before: int, stack: int, step: int) -> np.ndarray:
    """Rows as an observation shows them: single frames become the last n of the episode, the oldest first.

    The first ``before`` rows are frames that are shown with those that follow; if they are fewer than n - 1, the first
    of them is the episode's.
    """
    if stack == 1:
        return rows[::step]
    at = np.arange(before, len(rows), step)[:, None] + np.arange(1 - stack, 1)
    frames = rows[np.maximum(at, 0)]  # [T, n, C, H, W]
    return frames.reshape(len(frames), stack * rows.shape[1], *rows.shape[2:])


class NativeFormat:
    """Datasets as :class:`DatasetWriter` makes them."""

    name = FORMAT

    def detect(self, path: Path) -> bool:
        """Tell whether the folder has a page of ours."""
        return (path / PAGE).is_file()

    def open(self, path: Path, **options: Any) -> Native:
        """Return the dataset in a folder.

        ``verify=True`` hashes every file first; by default that is done where they are small, and ``data verify`` or
        reading a whole episode finds what was altered elsewhere.
        """
        refuse_unknown(self.name, options, ["verify"])
        recording = _open(path)
        verify = options.get("verify")
        if verify or (verify is None and _bytes(recording) <= SMALL):
            for problem in recording.verify():
                raise problem
        return recording


def _bytes(recording: Native) -> int:
    """How large the raw rows are, at most."""
    assert recording.page is not None
    row = sum(int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize for spec in recording.page.fields().values())
    return row * recording.page.rows


def _open(path: Path) -> Native:
    def read() -> tuple[tuple[Page, np.ndarray, np.ndarray], dict[str, Path]]:
        page = read_page(path)
        places = saved(path / PAGE, page.tables)
        return (page, np.array(map_npy(places[EPISODES], "episodes")), np.array(map_npy(places[IDS], "ids"))), places

    try:
        page, table, ids = steady(path / PAGE, read)
    except CheckpointError as error:
        raise DatasetError(str(error)) from error
    episodes = _table(path, page, table, ids)
    sources = [dict(source) for source in page.sources]
    return Native(
        format=FORMAT,
        place=path,
        obs_spec=page.obs_spec,
        action_spec=page.action_spec,
        episodes=episodes,
        columns={},
        info_spec=page.info_spec,
        remarks=page.remarks,
        provenance=sources[0] if len(sources) == 1 else {"sources": sources},
        files=(path / PAGE, path / EPISODES, path / IDS),
        action_bounds=page.action_bounds,
        page=page,
        sources=table[:, SOURCE],
    )


def _table(path: Path, page: Page, table: np.ndarray, ids: np.ndarray) -> EpisodeTable:
    """The table of episodes, in agreement with the shards. Raises DatasetError."""
    file = path / EPISODES
    if table.shape != (page.episodes, 5) or table.dtype != np.int64 or ids.shape != table.shape[:1]:
        raise damaged(file, f"it has {table.dtype}{table.shape}, expected int64{(page.episodes, 5)}")
    if ids.dtype.kind != "U":
        raise damaged(path / IDS, f"it holds {ids.dtype}, expected text")
    lengths = table[:, LENGTH]
    ends = np.cumsum(lengths)
    bounds = {"terminal": (TERMINAL, 2), "stand-in": (STAND_IN, 2), "source": (SOURCE, max(1, len(page.sources)))}
    if (lengths < 1).any() or (table[:, START] != ends - lengths).any():
        raise damaged(file, "its episodes do not follow one another")
    for name, (column, stop) in bounds.items():
        if (table[:, column] < 0).any() or (table[:, column] >= stop).any():
            raise damaged(file, f"a {name} in it is none of 0 to {stop - 1}")
    shards = np.cumsum(np.array([shard.episodes for shard in page.shards], np.int64)) - 1
    if not np.array_equal(ends[shards], np.cumsum(np.array([shard.rows for shard in page.shards], np.int64))):
        raise damaged(file, "its episodes and the shards of the page do not have the same rows")
    return EpisodeTable.of(ids.tolist(), lengths, table[:, TERMINAL], table[:, STAND_IN])
