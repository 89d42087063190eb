"""A replay that starts full: recorded episodes, laid into its streams."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from worldflux.core.errors import BufferError
from worldflux.envs import Step
from worldflux.words.counts import counted

from ..dataset import Dataset
from ..row import FLAGS
from .ring import LatentSpec, Replay
from .tiers import as_numpy

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Piece:
    """Rows ``start`` to ``stop`` of an episode."""

    dataset: Dataset
    episode: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def parted(self, rows: int) -> tuple[_Piece, _Piece]:
        """Return the first so many rows, and the others."""
        middle = self.start + rows
        return replace(self, stop=middle), replace(self, start=middle)

    def rows(self, frame_stacks: Mapping[str, int]) -> Iterator[dict[str, np.ndarray]]:
        """Give the rows; the first and the last are those of an episode, which where it is cut did not end in truth."""
        columns = self.dataset.episode(self.episode)
        for at in range(self.start, self.stop):
            row = {name: column[at] for name, column in columns.items()}
            row["is_first"], row["is_last"] = np.bool_(at == self.start), np.bool_(at == self.stop - 1)
            if at == self.start > 0 and "reward" in row:
                row["reward"] = np.zeros_like(row["reward"])  # what arriving there paid belongs to the piece before
            for name, frames in frame_stacks.items() if self.start else ():
                shown = columns[f"obs/{name}"]
                newest = shown[:, -shown.shape[1] // frames :]
                row[f"obs/{name}"] = np.concatenate([newest[max(at - k, self.start)] for k in reversed(range(frames))])
            yield row


def fill_replay(replay: Replay, sets: Sequence[Dataset], *, latent_spec: LatentSpec | None = None) -> int:
    """Lay the episodes of recorded data into the streams of an empty replay, and return how many rows it then holds.

    Streams are equally long, so what the longest have more than that is cut off and completes the others: a piece of
    an episode begins like an episode and does not end in truth. Where there are more rows than the replay keeps, the
    newest are kept; both is said. Latents (``latent_spec``, those of the replay) are zeros.

    Raises:
        BufferError: the replay is not empty, or a row cannot be stored.
    """
    if len(replay):
        raise BufferError(f"the replay holds {counted(len(replay), 'row')} already: only an empty one is filled")
    recorded = sum(map(len, sets))
    newest = _newest([_whole(one, i) for one in sets for i in range(len(one.episodes))], replay.capacity)
    streams = _levelled(newest, replay.num_streams)
    length = sum(map(len, streams[0]))
    feeds = [itertools.chain.from_iterable(piece.rows(replay.frame_stacks) for piece in stream) for stream in streams]
    latents = _zeros(latent_spec or {}, len(streams))
    for _ in range(length):
        row = {name: np.stack(values) for name, values in _together([next(feed) for feed in feeds]).items()}
        obs = {name: row[f"obs/{name}"] for name in replay.obs_spec}
        reward = row.get("reward", np.zeros(len(feeds), np.float32))
        first, last, terminal = (row[flag] for flag in FLAGS)
        replay.add(Step(obs, reward, first, last, terminal), row["action"], latents)
    replay.end_episodes()
    _tell(streams, recorded=recorded, kept=length * len(streams))
    return length * len(streams)


def _whole(dataset: Dataset, episode: int) -> _Piece:
    return _Piece(dataset, episode, 0, int(dataset.episodes.lengths[episode]))


def _newest(episodes: list[_Piece], rows: int) -> list[_Piece]:
    """The newest whole episodes that so many rows hold, in their order; the newest rows of one that is longer."""
    room, first = rows, len(episodes)
    while first and len(episodes[first - 1]) <= room:
        first -= 1
        room -= len(episodes[first])
    if first == len(episodes) > 0:
        return [episodes[-1].parted(len(episodes[-1]) - rows)[1]]
    return episodes[first:]


def _levelled(episodes: list[_Piece], number: int) -> list[list[_Piece]]:
    """Equally long streams: the longest episode placed first into the stream that is shortest then, then levelled."""
    length = sum(map(len, episodes)) // number
    places: list[list[int]] = [[] for _ in range(number)]
    filled = [0] * number
    for place in sorted(range(len(episodes)), key=lambda place: (-len(episodes[place]), place)):
        shortest = int(np.argmin(filled))
        places[shortest].append(place)
        filled[shortest] += len(episodes[place])
    parted = [_cut([episodes[place] for place in sorted(stream)], length) for stream in places]
    spare = [piece for _, over in parted for piece in over]
    streams = []
    for stream, _ in parted:
        more, spare = _cut(spare, length - sum(map(len, stream)))
        streams.append([*stream, *more])
    return streams


def _cut(pieces: list[_Piece], rows: int) -> tuple[list[_Piece], list[_Piece]]:
    """The first so many rows, or all where there are fewer, and the others."""
    first: list[_Piece] = []
    for i, piece in enumerate(pieces):
        if len(piece) > rows:
            head, tail = piece.parted(rows)
            return [*first, *([head] if rows else [])], [tail, *pieces[i + 1 :]]
        first.append(piece)
        rows -= len(piece)
    return first, []


def _tell(streams: list[list[_Piece]], *, recorded: int, kept: int) -> None:
    _LOG.info("the replay begins with %s recorded rows", f"{kept:,}")
    if kept < recorded:
        _LOG.warning(
            "%s of %s recorded rows are not in the replay, which holds %s of them in each of %d streams: more fit with "
            "a larger replay_capacity, or fewer num_envs",
            f"{recorded - kept:,}", f"{recorded:,}", f"{kept // len(streams):,}", len(streams),
        )  # fmt: skip
    begun = sum(piece.start > 0 for stream in streams for piece in stream)
    if begun:
        _LOG.warning(
            "streams of the replay begin in the middle of %d of their episodes, so that all %d are equally long: with "
            "num_envs=1 episodes stay whole", begun, len(streams),
        )  # fmt: skip


def _together(rows: list[dict[str, np.ndarray]]) -> dict[str, list[np.ndarray]]:
    return {name: [row[name] for row in rows] for name in rows[0] if all(name in row for row in rows)}


def _zeros(latent_spec: LatentSpec, streams: int) -> dict[str, np.ndarray]:
    """What stands for latents that no model has computed: as of rows that were acted at random."""
    return {
        name: as_numpy(torch.zeros(streams, *shape, dtype=getattr(torch, dtype)))
        for name, (shape, dtype) in latent_spec.items()
    }
