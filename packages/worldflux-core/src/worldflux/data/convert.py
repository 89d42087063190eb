"""Datasets of any format into one of ours."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.files import expanded
from worldflux.words.counts import counted

from .alike import difference
from .bounds import known_together
from .dataset import Dataset
from .native.writer import SHARD_BYTES, DatasetWriter
from .replay import Replay
from .replayed import replayed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Converted:
    """How far converting is: what the dataset holds, of how many episodes in all, and what was left out as double."""

    out: Path
    episodes: int
    rows: int
    total: int
    doubles: int


def convert(
    sources: Dataset | Sequence[Dataset],
    out: str | Path,
    *,
    images: Literal["auto", "raw", "zstd"] = "auto",
    command: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[Converted], None] = lambda now: None,
) -> Converted:
    """Write every episode of one or several datasets, in their order, to a dataset of ours in ``out``.

    Called again after it was stopped or killed, it goes on. Ids stay as they are, because splits go by them; where two
    sources call different episodes the same, the later one's id has the head of its dataset's fingerprint behind it,
    and where they are the same, there will be one.

    Raises:
        ConfigurationError: ``out`` holds another dataset, or the sources have different rows. DatasetError: a row is
            not right, with its file and episode; the episodes before it are kept.
    """
    datasets = [sources] if isinstance(sources, Dataset) else list(sources)
    if not datasets:
        raise ConfigurationError("there is nothing to convert: give at least one dataset")
    first = datasets[0]
    for other in datasets[1:]:
        _check_rows(first, other)
    place = expanded(out)
    for one in datasets:
        if one.recording.place.resolve() == place.resolve():
            raise ConfigurationError(f"{place} is what is to be converted: choose another folder to write to")
    if twice := [b.title for a, b in itertools.combinations(datasets, 2) if a.fingerprint == b.fingerprint]:
        raise ConfigurationError(f"{twice[0]} is given twice, or a copy of it: give each dataset once")
    remarks = [f"{one.recording.format}: {remark}" for one in datasets for remark in one.remarks]
    writer = DatasetWriter(
        place,
        first.obs_spec,
        first.action_spec,
        info_spec=first.info_spec,
        action_bounds=known_together((one.title, one.action_bounds) for one in datasets),
        rewards=first.has_rewards,
        frame_stack=first.recording.frame_stack,
        remarks=list(dict.fromkeys(remarks)),
        images=images,
        mode="append",
        shard_bytes=shard_bytes,
    )
    total, doubles = sum(len(one.episodes) for one in datasets), 0
    with writer:
        origins = [_origin(one, command, writer.sources) for one in datasets]
        if strange := [source for source in writer.sources if source not in origins]:
            raise ConfigurationError(
                f"{writer.path} holds episodes of something else, {_short(strange[0])}: choose another folder"
            )
        for which, index in [(i, index) for i, one in enumerate(datasets) for index in range(len(one.episodes))]:
            if stop():
                break
            doubles += _write(writer, datasets, origins, which, index)
            progress(Converted(writer.path, writer.episodes, writer.rows, total, doubles))
        writer.seal()
        done = Converted(writer.path, writer.episodes, writer.rows, total, doubles)
    if doubles:
        logger.info("%s in two of the datasets, and written once", counted(doubles, "episode is", "episodes are"))
    return done


def write_dataset(
    source: Dataset | Replay, out: str | Path, *, images: Literal["auto", "raw", "zstd"] = "auto"
) -> Converted:
    """Write the episodes of a dataset, or those that a replay holds, as a dataset of ours in ``out``.

    Of a replay an episode that is under way is cut, not ended in truth, and one whose first rows were overwritten
    begins where it is held; ids and remarks say so. Latents are left out. Raises ConfigurationError, DatasetError.
    """
    return convert(replayed(source) if isinstance(source, Replay) else source, out, images=images)


def _write(
    writer: DatasetWriter, datasets: Sequence[Dataset], origins: Sequence[dict[str, Any]], which: int, index: int
) -> bool:
    """Append an episode of a dataset, unless that was done before; return whether another dataset has the same."""
    dataset, origin = datasets[which], origins[which]
    name = dataset.episodes.ids[index]
    there, renamed = writer.source(name), f"{name}@{dataset.fingerprint[:8]}"
    if there == origin or writer.source(renamed) == origin:
        return False
    columns = dataset.episode(index)
    if there is not None and _same(_find(datasets, origins, there, name), columns):
        return True
    terminal, stand_in = bool(dataset.episodes.terminal[index]), bool(dataset.episodes.stand_in[index])
    name = name if there is None else renamed
    writer.append(columns, id=name, terminal=terminal, stand_in=stand_in, provenance=origin)
    return False


def _origin(dataset: Dataset, command: str | None, known: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Where episodes of a dataset come from; what was written of it before stays."""
    for source in known:
        if source.get("fingerprint") == dataset.fingerprint:
            return source
    recording = dataset.recording
    of = dict(recording.provenance)
    return {
        "converted_from": recording.format,
        "place": str(recording.place),
        "fingerprint": dataset.fingerprint,
        **({} if command is None else {"command": command}),
        **({"provenance": of} if of else {}),
    }


def _short(source: dict[str, Any]) -> str:
    return str(source.get("place") or source.get("env") or "of unknown origin")


def _check_rows(first: Dataset, other: Dataset) -> None:
    differs = difference(first, other, ("obs_spec", "action_spec", "info_spec", "has_rewards"))
    if differs is not None:
        what, mine, its = differs
        raise ConfigurationError(
            f"datasets that become one have the same rows, but {what} of {first.title} is {mine}, of {other.title} "
            f"{its}: leave one out"
        )


def _find(
    datasets: Sequence[Dataset], origins: Sequence[dict[str, Any]], origin: dict[str, Any], name: str
) -> dict[str, np.ndarray]:
    """The episode of this id, from the dataset that it was taken from."""
    dataset = datasets[origins.index(origin)]
    return dataset.episode(dataset.episodes.ids.index(name))


def _same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
