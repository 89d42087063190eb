"""The replay of a run's newest checkpoint, or one that was saved alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.errors import WorldFluxError
from worldflux.files import MAX_STATE, read_bytes, read_json, sha256

from ..bounds import ActionBounds
from ..native.page import read_action, read_modality
from ..recording import DatasetError, Recording, damaged
from ..replay import Replay
from ..replay.blocks import BlockFolder
from ..replayed import replayed
from ..storage import ARRAYS_FILE, load_arrays
from .common.guard import refuse_unknown

_RUN, _CHECKPOINTS, _MANIFEST, _REPLAY = "run_manifest.json", "checkpoints", "manifest.json", "replay"
_STEP = re.compile(r"step-[0-9]+")


class SavedReplay:
    """What ``worldflux train`` collects, as its checkpoints hold it, and what ``Replay.save`` writes."""

    name = "worldflux-replay"

    def detect(self, path: Path) -> bool:
        """Tell whether ``path`` is a run, one of its checkpoints, or a saved replay."""
        return _is_run(path) or any((path / one).is_file() for one in (f"{_REPLAY}/{ARRAYS_FILE}", ARRAYS_FILE))

    def open(self, path: Path, **options: Any) -> Recording:
        """Return the episodes of the replay in ``path``, a run's newest one.

        Raises DatasetError: there is none, it is damaged, or it was saved by a version that did not say what its
        rows are.
        """
        refuse_unknown(self.name, options, ())
        checkpoint = _newest(path) if _is_run(path) else path
        folder = checkpoint / _REPLAY if (checkpoint / _MANIFEST).is_file() else checkpoint
        if not (folder / ARRAYS_FILE).is_file():
            raise _no_replay(checkpoint)
        try:
            if folder != checkpoint:
                _check(checkpoint)
            replay = _loaded(folder)
        except (WorldFluxError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise error if isinstance(error, DatasetError) else damaged(folder, f"{error}") from error
        about = {"checkpoint": checkpoint.name} | (_about(path) if checkpoint != path else {})
        run = path if checkpoint != path else path.parent.parent
        return replayed(replay, place=path, provenance=about, action_bounds=_bounds(run)).recording


def _is_run(path: Path) -> bool:
    return (path / _RUN).is_file() or any((path / _CHECKPOINTS).glob("step-*"))


def _no_replay(place: Path) -> DatasetError:
    return DatasetError(
        f"{place} holds no replay: its run learned from recorded data alone, which its config.json names, or with "
        "save_replay=False"
    )


def _newest(run: Path) -> Path:
    """The checkpoint that a run goes on from."""
    folder = run / _CHECKPOINTS
    if (folder / "latest").is_file():
        named = read_bytes(folder / "latest", limit=100).decode("ascii", "replace").strip()
        if _STEP.fullmatch(named) and (folder / named).is_dir():
            return folder / named
    found = sorted(
        (one for one in folder.glob("step-*") if _STEP.fullmatch(one.name)), key=lambda one: int(one.name[5:])
    )
    if not found:
        raise DatasetError(f"{run} holds no checkpoint: its replay is written with the first one")
    return max(found, key=lambda one: int(one.name[5:]))


def _check(checkpoint: Path) -> None:
    """Raise DatasetError for a file of the replay that is not as its checkpoint was written."""
    files = read_json(checkpoint / _MANIFEST, limit=MAX_STATE)["files"]
    for name, expected in files.items():
        if name.startswith(f"{_REPLAY}/"):
            file = checkpoint / name
            if ".." in Path(name).parts or not file.is_file() or sha256(file) != expected["sha256"]:
                raise damaged(
                    file, "it is missing, or was altered after it was saved",
                    way_out="name an earlier checkpoint, RUN/checkpoints/step-N",
                )  # fmt: skip


def _loaded(folder: Path) -> Replay:
    arrays, meta = load_arrays(folder)
    if isinstance(meta.get("replay"), dict):  # of a source: its replay among other things
        arrays = {name.removeprefix("replay/"): array for name, array in arrays.items() if name.startswith("replay/")}
        meta = meta["replay"]
    if "row" not in meta:
        raise _no_replay(folder)
    if "specs" not in meta:
        raise damaged(
            folder, "an earlier version saved it, which did not say what its rows are",
            way_out="go on with its run, worldflux train --run RUN --resume --steps MORE, and read what that saves",
        )  # fmt: skip
    replay = _empty(meta)
    replay.load_state_dict(arrays, meta, BlockFolder(folder / "blocks") if "blocks" in meta else None)
    return replay


def _empty(meta: Mapping[str, Any]) -> Replay:
    """A replay that takes back what was saved, no larger than it must be."""
    streams, online, specs = meta["streams"], meta["online"], meta["specs"]
    latents = {
        name.removeprefix("latent/"): (tuple(shape), str(np.dtype(dtype)))
        for name, (shape, dtype) in meta["row"].items()
        if name.startswith("latent/")
    }
    return Replay(
        streams * min(meta["stream_capacity"], max(meta["rows"], online, 1)),
        obs_spec={name: read_modality(name, spec) for name, spec in specs["modalities"].items()},
        action_spec=read_action(specs["action_spec"]),
        num_streams=streams,
        latent_spec=latents,
        frame_stacks=meta.get("frame_stacks"),
        sequence_length=online or None,
        boundary=meta["boundary"],
        online=bool(online),
    )


def _bounds(run: Path) -> ActionBounds | None:
    """What -1 and 1 of the actions in a run's environment stand for; None where its file does not say."""
    try:
        told = read_json(run / "config.json", limit=MAX_STATE)["resolved"]["action_bounds"]
        return ActionBounds(told["low"], told["high"])
    except (WorldFluxError, LookupError, TypeError, ValueError):
        return None


def _about(run: Path) -> dict[str, Any]:
    """Where a run's rows come from."""
    try:
        config = read_json(run / "config.json", limit=MAX_STATE)
    except WorldFluxError:
        return {}
    return {name: config[name] for name in ("env", "env_options", "model", "policy", "seed") if name in config}
