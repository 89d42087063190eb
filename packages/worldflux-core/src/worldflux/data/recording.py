"""Recorded experience as every format's reader gives it: episodes of rows in the arrival convention."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from worldflux.core.errors import ValidationError
from worldflux.core.spec import ActionSpec, ModalitySpec

from .bounds import ActionBounds

EDGE = 1 << 16  # bytes at either end of a file that its fingerprint is made of


class DatasetError(ValidationError):
    """Recorded data is missing, damaged, of a newer version, or no rows of one shape."""

    error_code = "WF-D001"


def damaged(
    file: str | Path, what: str, *, episode: int | str | None = None, row: int | None = None, way_out: str = ""
) -> DatasetError:
    """Return the error that names the file, the episode and the row of a fault; ``way_out`` says the next step."""
    place = [str(file)]
    place += [] if episode is None else [f"episode {episode}"]
    place += [] if row is None else [f"row {row}"]
    return DatasetError(f"{', '.join(place)}: {what}" + (f"; {way_out}" if way_out else ""))


@dataclass(frozen=True)
class EpisodeTable:
    """What is known of E episodes, in the order of the recording.

    ``ids`` name them for good (splits go by them); ``lengths`` int64 counts the rows; ``terminal`` tells which ended in
    truth; ``stand_in`` whose last row repeats the observation before it, because the file shows none for it (its reward
    and its end are real).
    """

    ids: tuple[str, ...]
    lengths: np.ndarray
    terminal: np.ndarray
    stand_in: np.ndarray

    @classmethod
    def of(cls, ids: Iterable[object], lengths: Any, terminal: Any = None, stand_in: Any = None) -> EpisodeTable:
        """Build from lists; nothing ended in truth and nothing is a stand-in where it is not said."""
        names, lengths = tuple(str(one) for one in ids), np.asarray(lengths, np.int64)
        none = np.zeros(len(names), bool)
        table = cls(
            names,
            lengths,
            none if terminal is None else np.asarray(terminal, bool),
            none.copy() if stand_in is None else np.asarray(stand_in, bool),
        )
        assert table.lengths.shape == table.terminal.shape == table.stand_in.shape == (len(names),)
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DatasetError(f"two episodes are called {twice!r}: splits go by the ids, so each needs its own")
        return table

    def __len__(self) -> int:
        """E."""
        return len(self.ids)

    @property
    def rows(self) -> int:
        """The rows of all episodes."""
        return int(self.lengths.sum())

    @property
    def offsets(self) -> np.ndarray:
        """The first row of each episode, int64 ``[E]``, where all rows are in one line."""
        return np.cumsum(self.lengths) - self.lengths

    def take(self, which: Sequence[int] | np.ndarray) -> EpisodeTable:
        """Return some of the episodes."""
        which = np.asarray(which, np.int64)
        ids = tuple(self.ids[i] for i in which)
        return EpisodeTable(ids, self.lengths[which], self.terminal[which], self.stand_in[which])


@dataclass
class Recording:
    """Episodes at rest. A reader of a format returns one, or a subclass that reads some columns as they are asked for.

    ``columns`` holds, by name, the rows of all episodes in one line, ``[rows, ...]`` in the arrival convention:
    ``obs/NAME`` (images uint8 ``[C, H, W]``, vectors float32), ``action`` float32 ``[rows, A]`` flat (one-hot and
    continuous parts as the contract has them), ``reward`` float32 (absent where the format has none), ``info/NAME``
    for whatever else is worth keeping (``info/task``, named states for probes). The flags follow from ``episodes``.
    ``remarks`` say what was lost, guessed or is slow; ``provenance`` (JSON-able) where the data comes from;
    ``files`` what it was read from, for the fingerprint; ``action_bounds`` what -1 and 1 of an action stand for in the
    environment, where that is known.
    """

    format: str
    place: Path
    obs_spec: dict[str, ModalitySpec]
    action_spec: ActionSpec
    episodes: EpisodeTable
    columns: dict[str, np.ndarray]
    info_spec: dict[str, ModalitySpec] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    action_bounds: ActionBounds | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self._offsets = self.episodes.offsets

    @property
    def first_rows(self) -> np.ndarray:
        """The first row of each episode, int64 ``[E]``, where all rows are in one line."""
        return self._offsets

    @property
    def has_rewards(self) -> bool:
        """Whether the rows hold rewards."""
        return "reward" in self.columns

    @property
    def names(self) -> tuple[str, ...]:
        """Every column that ``read`` gives."""
        others = [name for name in ("action", "reward") if name in self.columns]
        return (*(f"obs/{name}" for name in self.obs_spec), *others, *(f"info/{name}" for name in self.info_spec))

    @property
    def fingerprint(self) -> str:
        """What tells this data from other data, 64 hexadecimal digits: the files' names, sizes, heads and tails.

        A format with hashes of its own takes these; where there are no files, the columns in memory are hashed.
        """
        digest = hashlib.sha256(f"{self.format} {self.names}".encode())
        for file in self.files:
            digest.update(f"{file.name} ".encode())
            digest.update(_edges(file))
        for name, column in self.columns.items() if not self.files else ():
            digest.update(f"{name} {column.dtype.str} {column.shape} ".encode())
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def read(self, name: str, episode: int, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Return rows ``start:stop:step`` of a column in one episode, ``[n, ...]``, possibly a view not to write to.

        A subclass overrides this for columns that are not in memory. Raises DatasetError for damaged data.
        """
        first = int(self._offsets[episode])
        return self.columns[name][first + start : first + stop : step]

    def gather(self, name: str, episodes: np.ndarray, starts: np.ndarray, length: int, step: int = 1) -> np.ndarray:
        """Return ``[B, length, ...]``: of each episode ``length`` rows from its start on, ``step`` apart."""
        parts = [
            self.read(name, int(episode), int(start), int(start) + (length - 1) * step + 1, step)
            for episode, start in zip(episodes, starts, strict=True)
        ]
        return np.stack(parts)

    @property
    def frame_stack(self) -> Mapping[str, int]:
        """The images that are the last n frames of the episode, and are stored as single ones, each with its n."""
        return {}

    def verify(self) -> Iterator[DatasetError]:
        """Give what is wrong, at most one fault an episode; nothing for a sound dataset.

        Every column of every episode is read; a format with hashes of its own compares these.
        """
        for episode in range(len(self.episodes)):
            try:
                for name in self.names:
                    rows = self.read(name, episode, 0, int(self.episodes.lengths[episode]))
                    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
                        row = int(np.argmin(np.isfinite(rows).reshape(len(rows), -1).all(axis=1)))
                        raise damaged(
                            self.place, f"{name} holds no number", episode=self.episodes.ids[episode], row=row
                        )
            except DatasetError as error:
                yield error

    def close(self) -> None:
        """Close what is open."""


def _edges(file: Path) -> bytes:
    """The size of a file, its first bytes and its last. Raises DatasetError."""
    try:
        with file.open("rb") as handle:
            size = handle.seek(0, 2)
            handle.seek(0)
            head = handle.read(EDGE)
            handle.seek(max(EDGE, size - EDGE))
            return f"{size} ".encode() + head + handle.read(EDGE)
    except OSError as error:
        raise damaged(file, f"it cannot be read: {error}") from error


@runtime_checkable
class Format(Protocol):
    """A way to keep experience on disk that WorldFlux can read."""

    name: str

    def detect(self, path: Path) -> bool:
        """Tell whether ``path`` holds this format, from a glance at names and heads; never raises, runs no code."""

    def open(self, path: Path, **options: Any) -> Recording:
        """Return what is in ``path``. Raises DatasetError for damaged data, ConfigurationError for unknown options."""
