"""A replay that starts full: recorded episodes, laid into its streams."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from worldflux.core.errors import BufferError
from worldflux.envs import Step

from .dataset import Dataset
from .layout import FLAGS
from .replay import LatentSpec, Replay, as_numpy

_LOG = logging.getLogger(__name__)
Episode = tuple[Dataset, int]


def fill_replay(replay: Replay, sets: Sequence[Dataset], *, latent_spec: LatentSpec | None = None) -> int:
    """Lay the episodes of recorded data into the streams of an empty replay, and return how many rows it then holds.

    Every episode stays whole in one stream, but for a stream's last one, which ends where the shortest stream does.
    Where there are more rows than the replay keeps, the newest are kept; both is said. Latents (``latent_spec``, those
    of the replay) are zeros.

    Raises:
        BufferError: the replay is not empty, or a row cannot be stored.
    """
    if len(replay):
        raise BufferError(f"the replay holds {len(replay)} rows already: only an empty one is filled")
    streams = _laid_out([(one, i) for one in sets for i in range(len(one.episodes))], replay)
    feeds = [_rows(episodes) for episodes in streams]
    shortest = min(sum(map(_length, episodes)) for episodes in streams)
    latents = _zeros(latent_spec or {}, len(streams))
    for _ in range(shortest):
        row = {name: np.stack(values) for name, values in _together([next(feed) for feed in feeds]).items()}
        obs = {name: row[f"obs/{name}"] for name in replay.obs_spec}
        reward = row.get("reward", np.zeros(len(feeds), np.float32))
        replay.add(Step(obs=obs, reward=reward, **{flag: row[flag] for flag in FLAGS}), row["action"], latents)
    replay.end_episodes()
    recorded, kept = sum(map(len, sets)), shortest * len(streams)
    _LOG.info("the replay begins with %s recorded rows", f"{kept:,}")
    if kept < recorded:
        _LOG.warning(
            "%s of %s recorded rows are not in the replay, which holds %s of them in each of %d streams: more fit with "
            "a larger replay_capacity, or fewer num_envs",
            f"{recorded - kept:,}", f"{recorded:,}", f"{shortest:,}", len(streams),
        )  # fmt: skip
    return kept


def _laid_out(episodes: list[Episode], replay: Replay) -> list[list[Episode]]:
    """The newest episodes that fit, in their order, the longest placed first into the stream that is shortest then."""
    room = replay.capacity // replay.num_streams
    streams: list[list[int]] = [[] for _ in range(replay.num_streams)]
    filled = [0] * len(streams)
    newest: list[int] = []
    total = 0
    for place in reversed(range(len(episodes))):
        total += _length(episodes[place])
        if total > replay.capacity:
            break
        newest.append(place)
    for place in sorted(newest, key=lambda place: (-_length(episodes[place]), place)):
        stream = int(np.argmin(filled))
        if filled[stream] + _length(episodes[place]) <= room:
            streams[stream].append(place)
            filled[stream] += _length(episodes[place])
    return [[episodes[place] for place in sorted(stream)] for stream in streams]


def _length(episode: Episode) -> int:
    dataset, index = episode
    return int(dataset.episodes.lengths[index])


def _rows(episodes: Iterable[Episode]) -> Iterator[dict[str, np.ndarray]]:
    for dataset, index in episodes:
        columns = dataset.episode(index)
        for row in range(int(dataset.episodes.lengths[index])):
            yield {name: column[row] for name, column in columns.items()}


def _together(rows: list[dict[str, np.ndarray]]) -> dict[str, list[np.ndarray]]:
    return {name: [row[name] for row in rows] for name in rows[0] if all(name in row for row in rows)}


def _zeros(latent_spec: LatentSpec, streams: int) -> dict[str, np.ndarray]:
    """What stands for latents that no model has computed: as of rows that were acted at random."""
    return {
        name: as_numpy(torch.zeros(streams, *shape, dtype=getattr(torch, dtype)))
        for name, (shape, dtype) in latent_spec.items()
    }
