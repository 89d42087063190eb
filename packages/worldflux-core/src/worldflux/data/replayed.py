"""The episodes that a replay holds, as a recording: what learns from a dataset learns from it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from worldflux.words.counts import counted

from .bounds import ActionBounds
from .dataset import Dataset
from .native.reader import shown
from .recording import DatasetError, EpisodeTable, Recording
from .replay import Replay

IN_MEMORY = Path("(a replay in memory)")
TAIL = "-tail"  # of the id of an episode whose first rows the ring has overwritten


class Held(NamedTuple):
    """An episode in a replay: the number of its first row there, its stream, and whether rows before that are gone."""

    row: int
    stream: int
    length: int
    headless: bool


@dataclass
class Replayed(Recording):
    """A recording that reads a replay's rows where they lie; ``columns`` is empty, latents are left out."""

    replay: Replay = field(kw_only=True)
    held: list[Held] = field(kw_only=True)

    @property
    def has_rewards(self) -> bool:
        """Every replay's rows hold rewards."""
        return True

    @property
    def names(self) -> tuple[str, ...]:
        """Every column that ``read`` gives."""
        return (*(f"obs/{name}" for name in self.obs_spec), *(["action"] if self.action_spec.dim else []), "reward")

    @property
    def frame_stack(self) -> Mapping[str, int]:
        """The images that are the last n frames, and are kept as single ones, each with its n."""
        return self.replay.frame_stacks

    @property
    def fingerprint(self) -> str:
        """What tells these rows from others: every one of them."""
        digest = hashlib.sha256(repr((self.names, self.held)).encode())
        for episode, length in enumerate(self.episodes.lengths.tolist()):
            for name in self.names:
                digest.update(np.ascontiguousarray(self.read(name, episode, 0, length)).tobytes())
        return digest.hexdigest()

    def read(self, name: str, episode: int, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Return rows ``start:stop:step`` of a column in one episode.

        Raises DatasetError if the replay has overwritten the episode since.
        """
        first, stream, _, headless = self.held[episode]
        if first < self.replay.held.start:
            raise DatasetError(
                f"{self.place}: the replay has overwritten episode {self.episodes.ids[episode]!r} since: take its "
                "episodes while nothing is added to it"
            )
        stack = self.frame_stack.get(name.removeprefix("obs/"), 1) if name.startswith("obs/") else 1
        stop, before = min(stop, int(self.episodes.lengths[episode])), min(start, stack - 1)
        column = name.replace("obs/", "frames/", 1) if stack > 1 else name
        rows = shown(self.replay.column(column, first + start - before, first + stop)[stream], before, stack, step)
        if name == "reward" and headless and start == 0:
            rows = rows.copy()
            rows[:1] = 0  # it was paid for an action that is not there
        return rows


def replayed(
    replay: Replay,
    *,
    place: Path = IN_MEMORY,
    provenance: Mapping[str, object] | None = None,
    action_bounds: ActionBounds | None = None,
) -> Dataset:
    """Return the episodes that a replay holds, those that began first coming first; nothing is copied.

    An episode that is under way ends with its newest row, not in truth. One whose first rows the ring has overwritten
    begins where it is held, its first row pays nothing and shows no frames of before; its id ends in ``-tail``.
    Raises DatasetError if the replay is empty.
    """
    if not replay.held:
        raise DatasetError(f"{place}: the replay is empty: there is no episode in it")
    held = _held(replay)
    newest = [(one.stream, one.row + one.length - 1 - replay.held.start) for one in held]
    last, terminal = (
        np.array([flags[at] for at in newest])
        for flags in (replay.column(name, *_ends(replay)) for name in ("is_last", "is_terminal"))
    )
    remarks = []
    if tails := sum(one.headless for one in held):
        remarks.append(
            f"{tails} of {counted(len(held), 'episode')} begin in their middle, because the replay has overwritten "
            f"their first rows: they are read as episodes that begin there, and their ids end in {TAIL}"
        )
    if under_way := int((~last).sum()):
        remarks.append(
            f"{under_way} of {counted(len(held), 'episode')} were under way: they end with their newest row, not in "
            "truth"
        )
    ids = [f"{one.stream:03d}-{one.row:010d}{TAIL if one.headless else ''}" for one in held]
    recording = Replayed(
        format="worldflux-replay",
        place=place,
        obs_spec=dict(replay.obs_spec),
        action_spec=replay.action_spec,
        episodes=EpisodeTable.of(ids, [one.length for one in held], terminal),
        columns={},
        remarks=tuple(remarks),
        provenance=dict(provenance or {}),
        action_bounds=action_bounds,
        replay=replay,
        held=held,
    )
    return Dataset(recording)


def _ends(replay: Replay) -> tuple[int, int]:
    return replay.held.start, replay.held.stop


def _held(replay: Replay) -> list[Held]:
    """The episodes that a replay holds, by their first rows."""
    oldest, stop = _ends(replay)
    found = []
    for stream, first in enumerate(replay.column("is_first", oldest, stop)):
        starts = np.flatnonzero(first | (np.arange(stop - oldest) == 0)).tolist()
        for start, end in zip(starts, [*starts[1:], stop - oldest], strict=True):
            found.append(Held(oldest + start, stream, end - start, headless=not first[start]))
    return sorted(found)
