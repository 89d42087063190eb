"""What a plugin's format gives, looked at before anything is made of it: a stranger's mistake is named as its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from worldflux.core.errors import PluginError
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.words.counts import counted

from .bounds import ActionBounds
from .recording import EpisodeTable, Recording

Kind = tuple[tuple[int, ...], np.dtype]  # of one row


def check_brought(recording: object, name: str) -> Recording:
    """Return what the format ``name`` gave, whose columns are what it says of them as far as two rows tell.

    The first row of all and the last are read. Raises PluginError, naming the format, the column and what was expected;
    DatasetError, as the format does, for damaged data.
    """
    if not isinstance(recording, Recording):
        gave = f"gave a {type(recording).__name__}"
        raise PluginError(f"the format {name!r} {gave}, expected a worldflux.data.Recording of open(path)")
    table = recording.episodes
    if not isinstance(table, EpisodeTable) or (table.lengths < 1).any():
        raise PluginError(f"the format {name!r}: each episode needs a row, its table of episodes is {table!r:.200}")
    kinds = _stated(recording, name)
    for column in [column for column in recording.columns if column in kinds]:
        if len(recording.columns[column]) != table.rows:
            had = f"has {counted(len(recording.columns[column]), 'row')}, its episodes {table.rows:,}"
            raise PluginError(f"the format {name!r}: column {column!r} {had}: they hold the rows of all, in one line")
    for episode in sorted({0, len(table) - 1}) if len(table) else ():
        for row in {0, int(table.lengths[episode]) - 1}:
            for column, kind in kinds.items():
                _check_row(recording, name, column, kind, episode=episode, row=row)
    return recording


def _stated(recording: Recording, name: str) -> dict[str, Kind]:
    """What a row of each column is, as the recording's specs say."""
    specs = {f"obs/{key}": spec for key, spec in recording.obs_spec.items()}
    specs |= {f"info/{key}": spec for key, spec in recording.info_spec.items()}
    wrong = [key for key, spec in specs.items() if not isinstance(spec, ModalitySpec)]
    if wrong or not recording.obs_spec or not isinstance(recording.action_spec, ActionSpec):
        what = f"{wrong[0]!r} is a {type(specs[wrong[0]]).__name__}" if wrong else f"it has {sorted(specs)}"
        raise PluginError(
            f"the format {name!r}: a recording states at least one observation, each as a ModalitySpec, and its "
            f"actions as an ActionSpec; {what}, and actions as a {type(recording.action_spec).__name__}"
        )
    bounds = recording.action_bounds
    if bounds is not None and (not isinstance(bounds, ActionBounds) or len(bounds.low) != recording.action_spec.dim):
        raise PluginError(
            f"the format {name!r}: action_bounds is {bounds!r}, expected ActionBounds of "
            f"{counted(recording.action_spec.dim, 'component')}, or None"
        )
    kinds = {key: (tuple(spec.shape), np.dtype(spec.dtype)) for key, spec in specs.items()}
    number = np.dtype(np.float32)
    if recording.action_spec.dim:
        kinds["action"] = ((recording.action_spec.dim,), number)
    return kinds | ({"reward": ((), number)} if recording.has_rewards else {})


def _check_row(recording: Recording, name: str, column: str, kind: Kind, *, episode: int, row: int) -> None:
    """Raise PluginError unless a row is there and of its kind."""
    (shape, dtype), where = kind, f"row {row} of episode {recording.episodes.ids[episode]!r}"
    try:
        found = recording.read(column, episode, row, row + 1)
    except (LookupError, AttributeError) as error:
        known: Mapping[str, object] = recording.columns
        raise PluginError(
            f"the format {name!r} states {column!r}, but cannot read {where} ({error!r}); it has {sorted(known)}"
        ) from error
    if not isinstance(found, np.ndarray) or found.shape != (1, *shape) or found.dtype != dtype:
        got = f"{found.dtype}{found.shape}" if isinstance(found, np.ndarray) else f"a {type(found).__name__}"
        raise PluginError(f"the format {name!r}: {column!r} gave {got} for {where}, expected {dtype}{(1, *shape)}")
