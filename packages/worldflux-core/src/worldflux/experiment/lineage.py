"""What a run's model has learned from: the run's own data, and that of whatever it started from."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from worldflux.agent import read_spaces
from worldflux.core.errors import CheckpointError, ConfigurationError
from worldflux.data import ActionBounds, Dataset, DatasetError, open_dataset
from worldflux.data.bounds import space_bounds
from worldflux.files import expanded

from .experience import Recorded, parted
from .settings import Settings, read_json, read_settings

Runs = Iterator["tuple[Path, Settings] | None"]  # None ends them where what went before is not known
REPLAY = "worldflux-replay"
LOOKED_AT = 16  # episodes of two sets that are called the same
logger = logging.getLogger(__name__)


def fingerprints(directory: Path) -> list[str]:
    """Return those of the sets of data that the run in a directory learned from, in their order."""
    resolved = read_json(directory / "config.json").get("resolved")
    stored = resolved.get("data") if isinstance(resolved, Mapping) else None
    return [str(one.get("fingerprint")) for one in stored or [] if isinstance(one, Mapping)]


def run_bounds(directory: Path) -> ActionBounds | None:
    """Return what -1 and 1 of a run's actions stand for: in its environment, or in its data; None where unknown."""
    if (spaces := read_spaces(directory)) is not None:
        return space_bounds(spaces[1])
    resolved = read_json(directory / "config.json").get("resolved")
    stored = resolved.get("data") if isinstance(resolved, Mapping) else None
    found: ActionBounds | None = None
    for one in stored or []:
        with contextlib.suppress(LookupError, TypeError, ValueError):  # of a set that says none
            bounds = ActionBounds(one["action_bounds"]["low"], one["action_bounds"]["high"])
            found = bounds if found is None else found.filled(bounds)
    return found


def bounds_before(settings: Settings) -> tuple[str, ActionBounds | None]:
    """Return which run a run starts from, and the bounds of its actions, where either learned from recorded ones.

    Where it knows none, those of the run that it started from. From one environment to another they may change.
    """
    first: tuple[str, ActionBounds | None] = "", None
    recorded, met = bool(settings.data), set[Path]()
    for run in _before(settings):
        if run is None or run[0] in met:
            break
        met.add(run[0])
        recorded = recorded or bool(run[1].data)
        if first[1] is None and (bounds := run_bounds(run[0])) is not None:
            first = (f"the run {run[0]}", bounds)
    return first if recorded else ("", None)


def held_out_unseen(directory: Path, settings: Settings, one: Recorded) -> bool | None:
    """Return whether neither a run nor its starts learned from what it holds out of a set, be it by way of another set.

    None where it is not known.
    """
    assert one.held_out is not None
    return _unseen(_and_before(directory, settings), one.whole, one.fingerprint, one.held_out.episodes.ids)


def never_learned(directory: Path, settings: Settings, data: Dataset) -> bool | None:
    """Return whether neither a run nor its starts learned from any of some data; None where it is not known."""
    return _unseen(_and_before(directory, settings), data, data.fingerprint, data.episodes.ids)


def warn_of_learned(settings: Settings, sets: Sequence[Recorded]) -> None:
    """Say of which sets a run that begins holds episodes out that its start or another set has it learn from."""
    for one in sets:
        if one.held_out is None:
            continue
        ids = one.held_out.episodes.ids
        if _unseen(_before(settings), one.whole, one.fingerprint, ids) is False:
            logger.warning(
                "%s learned from episodes of %s that are held out here: their errors say nothing of data it has not "
                "seen; hold out the same share (held_out, --held-out), or less", settings.start_from, one.name,
            )  # fmt: skip
        for other in sets:
            if other.fingerprint != one.fingerprint and _share(one.whole, ids, other.training):
                logger.warning(
                    "episodes that are held out of %s are learned from in %s: their errors say nothing of data the "
                    "model has not seen; leave one of the two out, or merge them (worldflux data merge)",
                    one.name, other.name,
                )  # fmt: skip


def _unseen(runs: Runs, whole: Dataset, fingerprint: str, ids: Collection[str]) -> bool | None:
    """Whether none of some runs learned from the episodes ``ids`` of data; None where it is not known."""
    replay = _replay_of(whole)
    known: bool | None = True if replay is None or replay.exists() else None  # moved: whose it was cannot be told
    met: set[Path] = set()
    for run in runs:
        if run is None or run[0] in met:  # in a circle: a directory holds another run now
            return None
        directory, settings = run
        met.add(directory)
        if replay is not None and replay.is_relative_to(directory.resolve()):
            return False
        for name, own in zip(settings.data, fingerprints(directory)):
            if own == fingerprint:
                learned = parted(whole, settings.held_out, name)[0].episodes.ids
                if not set(learned).isdisjoint(ids):
                    return False
            elif (before := _still_there(name, settings)) is not None:
                same = before.fingerprint == own
                if _share(whole, ids, parted(before, settings.held_out, name)[0] if same else before):
                    if same:
                        return False
                    known = None  # it has changed since: which episodes these were cannot be told
    return known


def _replay_of(data: Dataset) -> Path | None:
    """The run, or what of it, whose replay some data is or was written from; None where it is none."""
    recording = data.recording
    if recording.format == REPLAY:
        return recording.place.resolve()
    told = recording.provenance
    return Path(str(told.get("place"))).resolve() if told.get("converted_from") == REPLAY else None


def _still_there(name: str, settings: Settings) -> Dataset | None:
    """The data that a run learned from, whatever it has become; None where it is gone."""
    try:
        return open_dataset(name, **settings.data_options)
    except (DatasetError, ConfigurationError):
        return None


def _share(whole: Dataset, ids: Collection[str], other: Dataset) -> bool:
    """Whether some of the episodes ``ids`` are in another set, too: called the same, and done and paid the same."""
    here, there = ({one: i for i, one in enumerate(data.episodes.ids)} for data in (whole, other))
    both = [one for one in ids if one in there][:LOOKED_AT]
    names = [name for name in ("action", "reward") if name in whole.recording.names and name in other.recording.names]
    return any(
        all(np.array_equal(whole.column(name, here[one]), other.column(name, there[one])) for name in names)
        for one in both
    )


def _before(settings: Settings) -> Runs:
    """The runs that a run's first weights went through, the latest first."""
    start = settings.start_from or (settings.model if expanded(settings.model).is_dir() else None)
    if start is None:
        return
    folder = expanded(start)
    folder = folder.parent if folder.name == "model" and (folder.parent / "config.json").is_file() else folder
    try:
        stored = read_settings(folder)
    except CheckpointError:  # a saved model does not tell
        yield None
        return
    yield from _and_before(folder, stored)


def _and_before(directory: Path, settings: Settings) -> Runs:
    yield directory, settings
    yield from _before(settings)
