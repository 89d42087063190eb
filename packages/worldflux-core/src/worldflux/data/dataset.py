"""A dataset: recorded episodes behind one door, whatever format they are in."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np

from worldflux.core.batch import Batch
from worldflux.core.errors import ConfigurationError, did_you_mean
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.words.counts import counted

from .bounds import ActionBounds
from .recording import EpisodeTable, Recording
from .row import check_whole
from .sequences import Piece, Sequences
from .windows import Windows, tensor


class Dataset:
    """Some episodes of a recording (default: all): their specs, their table, and windows over them."""

    def __init__(self, recording: Recording, which: Sequence[int] | np.ndarray | None = None) -> None:
        self.recording = recording
        self._which = np.arange(len(recording.episodes)) if which is None else np.asarray(which, np.int64)
        self.episodes: EpisodeTable = recording.episodes.take(self._which)

    @property
    def obs_spec(self) -> Mapping[str, ModalitySpec]:
        """The observations by name, as an environment states them."""
        return self.recording.obs_spec

    @property
    def action_spec(self) -> ActionSpec:
        """The flat action, as an environment states it."""
        return self.recording.action_spec

    @property
    def action_bounds(self) -> ActionBounds | None:
        """What -1 and 1 of an action stand for in the environment; None where the data does not say."""
        return self.recording.action_bounds

    @property
    def info_spec(self) -> Mapping[str, ModalitySpec]:
        """What else the rows hold, by name: tasks, named states."""
        return self.recording.info_spec

    @property
    def has_rewards(self) -> bool:
        """Whether the rows hold rewards."""
        return self.recording.has_rewards

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the reader lost, guessed, or found slow."""
        return self.recording.remarks

    @cached_property
    def fingerprint(self) -> str:
        """What tells this data from other data, 64 hexadecimal digits: its recording's, and which episodes of it."""
        table = self.episodes
        digest = hashlib.sha256(f"{self.recording.fingerprint} {table.ids}".encode())
        for column in (self._which, table.lengths, table.terminal, table.stand_in):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        """The number of rows."""
        return self.episodes.rows

    @property
    def title(self) -> str:
        """What to call it in a message: its place."""
        return str(self.recording.place)

    def column(self, name: str, index: int) -> np.ndarray:
        """Return every row of one column in an episode, such as ``"obs/state"``, possibly not to be written to.

        Raises ConfigurationError for a column that there is not, IndexError for an episode.
        """
        if name not in self.recording.names:
            known = self.recording.names
            raise ConfigurationError(
                f"there is no column {name!r}, only {', '.join(known)}.{did_you_mean(name, known)}"
            )
        return self.recording.read(name, int(self._which[index]), 0, int(self.episodes.lengths[index]))

    def episode(self, index: int) -> dict[str, np.ndarray]:
        """Return every row of an episode by column, with ``is_first``, ``is_last`` and ``is_terminal``."""
        length = int(self.episodes.lengths[index])
        rows = {name: self.column(name, index) for name in self.recording.names}
        at = np.arange(length)
        last = at == length - 1
        return rows | {"is_first": at == 0, "is_last": last, "is_terminal": last & bool(self.episodes.terminal[index])}

    def batch(
        self,
        episodes: Sequence[int] | np.ndarray,
        starts: Sequence[int] | np.ndarray,
        length: int,
        *,
        frame_skip: int = 1,
        obs: Collection[str] | None = None,
    ) -> Batch:
        """Return ``length`` rows of ``episodes[b]`` from ``starts[b]`` on, ``frame_skip`` apart: ``[B, length, ...]``.

        ``obs`` names the observations that are read; None is all.

        Raises:
            ConfigurationError: nothing is asked for, or rows that an episode does not have.
        """
        check_whole("length", length, 1)
        check_whole("frame_skip", frame_skip, 1)
        which, first = np.asarray(episodes, np.int64), np.asarray(starts, np.int64)
        if which.shape != first.shape or which.ndim != 1 or not len(which):
            raise ConfigurationError(
                f"a batch needs as many starts as episodes and at least one, got {list(which.shape)} episodes and "
                f"{list(first.shape)} starts"
            )
        lengths = self.episodes.lengths.tolist()
        rows = np.array([lengths[one] if 0 <= one < len(lengths) else 0 for one in which.tolist()])
        wrong = (first < 0) | (first + (length - 1) * frame_skip >= rows)
        if wrong.any():
            at = int(np.argmax(wrong))
            apart = f" {frame_skip} apart" if frame_skip > 1 else ""
            raise ConfigurationError(
                f"episode {which[at]} of {len(self.episodes)} has {counted(rows[at], 'row')}, {length}{apart} were "
                "asked for from "
                f"row {first[at]} on"
            )
        places = zip(which.tolist(), first.tolist(), strict=True)
        return self.sequences([[(*place, length)] for place in places], frame_skip=frame_skip, obs=obs)

    def sequences(
        self, windows: Sequence[Sequence[Piece]], *, frame_skip: int = 1, obs: Collection[str] | None = None
    ) -> Batch:
        """Return a batch of sequences, each given as the pieces of episodes it is made of."""
        shown = tuple(self.obs_spec) if obs is None else tuple(obs)
        wanted = {f"obs/{name}" for name in shown}
        names = [name for name in self.recording.names if not name.startswith("obs/") or name in wanted]
        columns = Sequences(self.recording, self.episodes, self._which, frame_skip).columns(names, windows)
        out: dict[str, Any] = {name: tensor(column) for name, column in columns.items()}
        extras = {f"wf.data.{name}": out[f"info/{name}"] for name in self.info_spec}
        return Batch(
            obs={name: out[f"obs/{name}"] for name in shown},
            actions=out.get("action"),
            rewards=out.get("reward"),
            is_first=out["is_first"],
            is_last=out["is_last"],
            is_terminal=out["is_terminal"],
            extras={**extras, "wf.data.index": out["index"]},
        )

    def windows(
        self,
        length: int | None = None,
        *,
        frame_skip: int = 1,
        boundary: Literal["within", "cross"] = "within",
        seed: int = 0,
        obs: Collection[str] | None = None,
        stand_ins: bool = True,
    ) -> Windows:
        """Return what samples windows of ``length`` rows; see :class:`Windows`."""
        return Windows(self, length, frame_skip=frame_skip, boundary=boundary, seed=seed, obs=obs, stand_ins=stand_ins)

    def select(self, which: Sequence[int] | np.ndarray) -> Dataset:
        """Return the dataset of some of its episodes, by their places in the table."""
        return Dataset(self.recording, self._which[np.asarray(which, np.int64)])

    def over(self, recording: Recording) -> Dataset:
        """Return the same episodes of another recording, which has them in the same order."""
        return Dataset(recording, self._which)

    def split(self, held_out: float, *, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Return two datasets, ``held_out`` of the episodes in the second; which ones follows from their ids alone.

        However few there are, each side has one at least. Raises ConfigurationError for a share that is none, and where
        there are not two episodes.
        """
        if isinstance(held_out, bool) or not isinstance(held_out, (int, float)) or not 0 < held_out < 1:
            raise ConfigurationError(f"held_out is {held_out!r}, expected a share of the episodes, such as 0.1")
        if len(self.episodes) < 2:
            has = "a single episode" if len(self.episodes) else "no episode"
            raise ConfigurationError(
                f"{self.title} has {has}, and both sides of a split need one: record more episodes"
            )
        keys = [hashlib.sha256(f"{seed}/{one}".encode()).digest() for one in self.episodes.ids]
        count = min(max(1, round(held_out * len(keys))), len(keys) - 1)
        second = sorted(sorted(range(len(keys)), key=keys.__getitem__)[:count])
        first = sorted(set(range(len(keys))) - set(second))
        return self.select(first), self.select(second)
