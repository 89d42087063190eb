"""Minari datasets (HDF5, Arrow, Parquet), read without Minari and without Gymnasium."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from worldflux.words.counts import counted

from ...recording import EpisodeTable, damaged
from ..common.actions import BOUNDS, Acted, ActionOptions, told_by_space
from ..common.arrivals import arrival, padded
from ..common.columns import check_finite, info_column, picked, vector_spec
from ..common.guard import refuse_unknown
from ..common.lazy import LazyRecording, Source
from .arrow import ArrowEpisodes
from .hdf5 import Hdf5Episodes
from .meta import Episode, Meta, data_of, read_meta
from .spaces import Actions, is_picture, named, observation_specs, vectors


class Minari:
    """A folder with ``data/metadata.json``, as Minari 0.4 and 0.5 write it."""

    name = "minari"

    def detect(self, path: Path) -> bool:
        """Tell whether ``path`` holds Minari's metadata beside its data."""
        try:
            data = data_of(path)
            inside = (data / "main_data.hdf5", data / "0" / "metadata.json")
            return (data / "metadata.json").is_file() and any(one.exists() for one in inside)
        except OSError:
            return False

    def open(self, path: Path, **options: Any) -> LazyRecording:
        """Return the dataset in ``path``.

        Options: ``action_low``, ``action_high``, ``action_scale`` (bounds in the place of the action space's),
        ``info`` (names of infos to keep, all by default). Raises DatasetError, ConfigurationError.
        """
        refuse_unknown(self.name, options, (*BOUNDS, "info"))
        meta = read_meta(path)
        stored = Hdf5Episodes(meta) if meta.container == "hdf5" else ArrowEpisodes(meta)
        try:
            return _recording(path, meta, stored, options)
        except BaseException:
            stored.close()
            raise


def _recording(path: Path, meta: Meta, stored: Any, options: Mapping[str, Any]) -> LazyRecording:
    episodes = [_checked(meta, i, stored.episode(i)) for i in range(meta.total_episodes)]
    steps = [len(one.rewards) for one in episodes]
    if sum(steps) != meta.total_steps:
        raise damaged(meta.file, f"total_steps is {meta.total_steps}, the episodes have {sum(steps)}")
    table = EpisodeTable.of(range(len(steps)), np.add(steps, 1), [bool(one.terminations[-1]) for one in episodes])
    specs = observation_specs(meta.observation)
    leaves = named(meta.observation, "obs")
    columns = {
        f"obs/{name}": np.concatenate(
            [vectors(leaf.space, one.observations[name], _fail(one.file, f"observation {name!r}", i))
             for i, one in enumerate(episodes)]
        )
        for name, leaf in leaves.items()
        if not is_picture(leaf.space)
    }  # fmt: skip
    with np.errstate(over="ignore"):
        columns["reward"] = np.concatenate([arrival(one.rewards) for one in episodes])
    acted = _actions(meta, episodes, table, ActionOptions.of(options))
    columns["action"] = acted.rows
    infos, more = _infos(path, episodes, options.get("info"))
    columns |= {f"info/{name}": rows for name, rows in infos.items()}
    for name, rows in columns.items():
        check_finite(name.replace("obs/", "observation ", 1), rows, table, lambda i: episodes[i].file)
    sources: dict[str, Source] = {
        f"obs/{name}": stored.pictures(name, leaf) for name, leaf in leaves.items() if is_picture(leaf.space)
    }
    remarks = [
        *_lost(meta),
        *acted.remarks,
        *more,
        *_inner_ends(episodes),
        *_contradictions(episodes),
        *stored.remarks,
        *stored.slow,
    ]
    about = {key: meta.rest[key] for key in _ABOUT if isinstance(meta.rest.get(key), (str, int, float, list))}
    return LazyRecording(
        "minari", path, specs, acted.spec, table, columns,
        {name: vector_spec(name, rows) for name, rows in infos.items()}, tuple(remarks),
        {"container": meta.container, **about}, (meta.file, *stored.files), sources,
        action_bounds=acted.bounds,
    )  # fmt: skip


_ABOUT = (
    "dataset_id", "minari_version", "env_spec", "algorithm_name", "author", "code_permalink", "description",
)  # fmt: skip


def _fail(file: Path, what: str, episode: int) -> Any:
    def fail(text: str, row: int | None) -> NoReturn:
        raise damaged(file, f"{what} {text}", episode=episode, row=row)

    return fail


def _checked(meta: Meta, i: int, one: Episode) -> Episode:
    """The episode, whose columns have the rows that they must. Raises DatasetError."""
    steps = len(one.rewards)
    if not steps:
        raise damaged(one.file, "it has no step", episode=i, way_out="leave it out: nothing can be learned from it")
    for name, rows in (("terminations", one.terminations), ("truncations", one.truncations), ("rewards", one.rewards)):
        if rows.ndim != 1 or len(rows) != steps or rows.dtype.kind not in ("b" if name != "rewards" else "fiu"):
            raise damaged(
                one.file,
                f"{name} is {rows.dtype}{list(rows.shape)}, expected one for each of {counted(steps, 'step')}",
                episode=i,
            )
    for name, rows in one.actions.items():
        _count(one.file, f"action {name!r}", rows, steps, i)
    for name, rows in one.observations.items():
        _count(one.file, f"observation {name!r}", rows, steps + 1, i)
    said = one.facts.get("total_steps", steps)
    if said != steps:
        raise damaged(one.file, f"total_steps is {said}, it holds {steps}", episode=i)
    return one


def _count(file: Path, what: str, rows: np.ndarray, expected: int, episode: int) -> None:
    if rows.ndim == 0 or len(rows) != expected:
        raise damaged(
            file, f"{what} has {counted(len(rows), 'row') if rows.ndim else 'no rows'}, expected {expected}",
            episode=episode,
            way_out="an episode has one observation more than actions and rewards",
        )  # fmt: skip


def _actions(meta: Meta, episodes: list[Episode], table: EpisodeTable, options: ActionOptions) -> Acted:
    how = Actions.of(meta.action)
    flat = [_padded(how, one, i) for i, one in enumerate(episodes)]
    rows = np.concatenate(flat)
    check_finite("the action", rows, table, lambda i: episodes[i].file)
    taken = np.ones(len(rows), bool)
    taken[np.cumsum(table.lengths) - 1] = False
    return told_by_space(rows, taken, how.spec, how.low, how.high, options)


def _padded(how: Actions, one: Episode, i: int) -> np.ndarray:
    flat = how.flat(one.actions, _fail(one.file, "the action", i))
    return padded(flat, rows=len(flat) + 1)


def _infos(path: Path, episodes: list[Episode], chosen: Any) -> tuple[dict[str, np.ndarray], list[str]]:
    found: dict[str, np.ndarray] = {}
    remarks = []
    for name in picked(path, "info", chosen, sorted({name for one in episodes for name in one.infos})):
        parts = [one.infos.get(name) for one in episodes]
        fits = all(part is not None and len(part) == len(one.rewards) + 1 for part, one in zip(parts, episodes))
        shapes = {(part.shape[1:], part.dtype.kind) for part in parts if part is not None}
        rows = info_column(np.concatenate(parts)) if fits and len(shapes) == 1 else None  # type: ignore[arg-type]
        if rows is None:
            remarks.append(f"info {name!r} is left out: it is no column of numbers that every row has")
        else:
            found[name] = rows
    return found, remarks


def _lost(meta: Meta) -> list[str]:
    wide = [
        name
        for name, leaf in named(meta.observation, "obs").items()
        if is_picture(leaf.space) and leaf.space.dtype != np.uint8
    ]
    return [
        *(f"observation {what} is left out: it has no place in a row of numbers" for what in meta.dropped),
        *(f"observation {name!r} has 16 bits, of which 256 levels of its range are kept" for name in wide),
    ]


def _inner_ends(episodes: list[Episode]) -> list[str]:
    early = [i for i, one in enumerate(episodes) if (one.terminations[:-1] | one.truncations[:-1]).any()]
    if not early:
        return []
    said = counted(len(early), "episode goes", "episodes go")
    return [f"{said} on after a row that is flagged as an end (first: {early[0]}): kept whole"]


def _contradictions(episodes: list[Episode]) -> list[str]:
    """What is said of an episode's rewards beside them, which tells of damage that HDF5 does not notice."""
    for i, one in enumerate(episodes):
        for name, value in (("sum", one.rewards.sum()), ("min", one.rewards.min()), ("max", one.rewards.max())):
            said = one.facts.get(f"rewards_{name}")
            if isinstance(said, (int, float)) and not np.isclose(float(said), float(value), rtol=1e-4, atol=1e-4):
                return [f"the rewards of episode {i} are not those it was written with: their {name} is {value:g}, "
                        f"rewards_{name} says {said:g}"]  # fmt: skip
    return []
