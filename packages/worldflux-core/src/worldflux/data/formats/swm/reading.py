"""stable-worldmodel's sets: one HDF5 file, or a folder of npz columns beside pictures or videos.

Version 0.1.1 does not record the row of the reset, and its writer then turns each episode's first action to the last
row; the main branch records it, with NaN for the reward of the first row and the action of the last. The counts of
steps in an episode's first row, 1 or 0, tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.spec import ModalitySpec
from worldflux.words.counts import counted

from ...recording import DatasetError, EpisodeTable, damaged
from ..common.actions import OPTIONS, ActionOptions, told_by_data
from ..common.columns import check_finite, info_column, picked, vector_spec, vectors
from ..common.guard import refuse_unknown
from ..common.hdf5 import hdf5_in, shows
from ..common.images import as_images, image_spec, is_image
from ..common.lazy import LazyRecording, Source
from .columns import KNOWN, SEEN, Columns, FolderColumns, Hdf5Columns


class StableWorldModel:
    """What ``World.collect`` of stable-worldmodel writes as ``hdf5``, ``folder`` or ``video``."""

    name = "swm"

    def detect(self, path: Path) -> bool:
        """Tell whether ``path`` is such a file or folder, or holds one (or a ``data`` folder that is)."""
        if hdf5_in(path) is not None:
            return shows(path, lambda root: "ep_len" in root and "ep_offset" in root)
        try:
            return _folder(path) is not None
        except OSError:
            return False

    def open(self, path: Path, **options: Any) -> LazyRecording:
        """Return the dataset in ``path``.

        Options: ``obs`` (names of the columns that a model sees; default: pictures, and what begins with
        observation, pixels or proprio; the other columns of numbers are infos), ``info``
        (names of those to keep, all by default), and those of actions. Raises DatasetError, ConfigurationError.
        """
        refuse_unknown(self.name, options, ("obs", *OPTIONS, "info"))
        folder = _folder(path) if path.is_dir() else None
        columns: Columns = Hdf5Columns(path) if folder is None else FolderColumns(folder, root=path)
        try:
            return _recording(path, columns, options)
        finally:
            columns.close()  # pictures open again when they are asked for


def _folder(path: Path) -> Path | None:
    return next((one for one in (path, path / "data") if (one / "ep_len.npz").is_file()), None)


class _Rows:
    """The rows of the episodes, in one line, out of columns that may hold others between them."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self.lengths, self.offsets = (columns.load(name).reshape(-1) for name in ("ep_len", "ep_offset"))
        count = columns.count
        file = columns.file("ep_len")
        if len(self.lengths) != len(self.offsets) or not len(self.lengths):
            raise damaged(file, f"ep_len has {counted(len(self.lengths), 'episode')}, ep_offset {len(self.offsets)}")
        if self.lengths.dtype.kind not in "iu" or self.offsets.dtype.kind not in "iu":
            raise damaged(file, "ep_len and ep_offset are no whole numbers")
        self.lengths, self.offsets = self.lengths.astype(np.int64), self.offsets.astype(np.int64)
        for i, (length, offset) in enumerate(zip(self.lengths.tolist(), self.offsets.tolist())):
            if length < 1 or offset < 0 or offset > count or length > count - offset:
                raise damaged(
                    file, f"ep_len says {counted(length, 'row')} from row {offset} on, the columns have {count}",
                    episode=i, way_out="its writer was stopped, or the file is damaged: leave the episode out",
                )  # fmt: skip
        order = np.argsort(self.offsets, kind="stable")
        ends = (self.offsets + self.lengths)[order]
        if (ends[:-1] > self.offsets[order][1:]).any():
            raise damaged(
                file, "rows belong to two episodes", episode=int(order[1:][ends[:-1] > self.offsets[order][1:]][0])
            )
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.at = np.repeat(self.offsets - self.starts, self.lengths) + np.arange(int(self.lengths.sum()))
        self.unclaimed = count - len(self.at)
        self.first = np.zeros(len(self.at), bool)
        self.first[self.starts] = True
        self.last = np.roll(self.first, -1)

    def load(self, name: str) -> np.ndarray:
        """A column's rows. Raises DatasetError."""
        values = self._columns.load(name)
        if not values.ndim or len(values) != self._columns.count:
            raise damaged(
                self._columns.file(name), f"{name} has {counted(len(values) if values.ndim else 0, 'row')}, the others "
                f"{self._columns.count}",
            )  # fmt: skip
        return values if len(self.at) == len(values) and (np.diff(self.at) == 1).all() else values[self.at]

    def flags(self, name: str) -> np.ndarray | None:
        """A column of yes or no, None where there is none. Raises DatasetError."""
        if name not in self._columns.names:
            return None
        values = self.load(name).reshape(len(self.at), -1)
        if values.shape[1] != 1 or not np.isin(values, (0, 1)).all():
            raise damaged(self._columns.file(name), f"{name} holds other numbers than 0 and 1, or several a row")
        return values[:, 0] != 0

    def place(self, row: int) -> dict[str, int]:
        """Where a row is, as errors name it."""
        episode = int(np.searchsorted(np.cumsum(self.lengths), row, side="right"))
        return {"episode": episode, "row": row - int(self.starts[episode])}


def _recording(path: Path, columns: Columns, options: Mapping[str, Any]) -> LazyRecording:
    rows = _Rows(columns)
    late = _late_episodes(columns, rows)
    _check_ids(columns, rows)
    ended = rows.flags("terminated")
    table = EpisodeTable.of(range(len(rows.lengths)), rows.lengths, None if ended is None else (ended[rows.last]))
    out: dict[str, np.ndarray] = {}
    remarks = _remarks(rows, late, ended)
    seen, others = _sorted_out(columns, options.get("obs"))
    spec, sources = _observations(columns, rows, seen, out, remarks)
    if "reward" in columns.names:
        out["reward"] = _rewards(columns, rows)
    if "action" not in columns.names:
        raise damaged(columns.file("action"), "there is no column action")
    acted = told_by_data(  # the last row's is NaN, or the episode's first
        rows.load("action"), ~rows.last, ActionOptions.of(options), place=columns.file("action")
    )
    out["action"] = acted.rows
    remarks += acted.remarks
    infos = _infos(columns, rows, picked(path, "info", options.get("info"), others), remarks)
    out |= {f"info/{name}": values for name, values in infos.items()}
    for name, values in out.items():
        own = name.split("/", 1)[-1]
        check_finite(own, values, table, columns.file(own))
    remarks += [*columns.remarks, *columns.slow]
    return LazyRecording(
        "swm", path, spec, acted.spec, table, out, {name: vector_spec(name, values) for name, values in infos.items()},
        tuple(remarks), {"container": columns.container}, columns.files, sources,
        action_bounds=acted.bounds,
    )  # fmt: skip


def _late_episodes(columns: Columns, rows: _Rows) -> np.ndarray | None:
    """Which episodes begin after the reset (0.1.1), ``[E]``; None where the steps are not counted."""
    if "step_idx" not in columns.names:
        return None
    counted = rows.load("step_idx").reshape(-1)
    if len(counted) != len(rows.at):
        raise damaged(columns.file("step_idx"), "step_idx holds several numbers a row")
    wrong = np.flatnonzero((np.diff(counted.astype(np.float64)) != 1) & ~rows.first[1:])
    if len(wrong):
        row = int(wrong[0]) + 1
        raise damaged(
            columns.file("step_idx"), f"step_idx is {counted[row]} after {counted[row - 1]}", **rows.place(row),
            way_out="rows are missing or shuffled",
        )  # fmt: skip
    first = counted[rows.starts]
    odd = np.flatnonzero((first != 0) & (first != 1))
    if len(odd):
        raise damaged(
            columns.file("step_idx"), f"its first row is step {first[odd[0]]}, expected 0 (or 1, of version 0.1.1)",
            episode=int(odd[0]), way_out="its first rows are missing",
        )  # fmt: skip
    return first == 1


def _check_ids(columns: Columns, rows: _Rows) -> None:
    for name in ("id", "ep_idx", "episode_idx"):
        if name in columns.names:
            own = rows.load(name).reshape(len(rows.at), -1)
            wrong = np.flatnonzero((own[1:] != own[:-1]).any(1) & ~rows.first[1:])
            if len(wrong):
                raise damaged(
                    columns.file(name), f"{name} changes inside an episode", **rows.place(int(wrong[0]) + 1),
                    way_out="ep_len and ep_offset do not fit the rows",
                )  # fmt: skip


def _remarks(rows: _Rows, late: np.ndarray | None, ended: np.ndarray | None) -> list[str]:
    remarks = []
    if late is not None and late.any():
        remarks.append(
            f"{counted(int(late.sum()), 'episode begins', 'episodes begin')} at step 1: stable-worldmodel 0.1.1 does "
            "not record the reset; the first row's reward is taken for 0 and the last row's action, which is the "
            "episode's first, for none"
        )
    if late is None:
        remarks.append("there is no step_idx: whether the rows of the reset are there is not known")
    if ended is None:
        remarks.append("there is no column terminated: no episode is known to have ended in truth")
    elif inner := int((ended & ~rows.last).sum()):
        remarks.append(
            f"{counted(inner, 'row before the last is', 'rows before the last are')} flagged as an end: episodes are "
            "kept whole"
        )
    if rows.unclaimed:
        remarks.append(
            f"{counted(rows.unclaimed, 'row belongs', 'rows belong')} to no episode of ep_len and ep_offset: left out"
        )
    return remarks


def _sorted_out(columns: Columns, chosen: Any) -> tuple[list[str], list[str]]:
    """The columns that a model sees, and the others. Raises ConfigurationError for a name that is none."""
    free = [name for name in columns.names if name not in KNOWN]
    if chosen is None:
        seen = [name for name in free if name in columns.pictures or name.startswith(SEEN)]
        if not seen:
            raise DatasetError(
                f"{columns.file('observation').parent}: none of its columns ({', '.join(free)}) is called observation "
                "or pixels: name what a model sees with obs=[...]"
            )
    else:
        seen = list(picked(columns.file("observation").parent, "obs", chosen, free))
    return seen, [name for name in free if name not in seen]


def _observations(
    columns: Columns, rows: _Rows, seen: list[str], out: dict[str, np.ndarray], remarks: list[str]
) -> tuple[dict[str, ModalitySpec], dict[str, Source]]:
    spec: dict[str, ModalitySpec] = {}
    sources: dict[str, Source] = {}
    for name in seen:
        if name in columns.pictures:
            spec[name], sources[f"obs/{name}"] = columns.open_pictures(name, rows.lengths, rows.offsets)
            continue
        values = rows.load(name)
        if is_image(values.shape[1:], values.dtype):
            out[f"obs/{name}"], spec[name] = as_images(values, values.shape[1:]), image_spec(name, values.shape[1:])
            continue
        if values.dtype.kind not in "biuf" or not values.size:
            remarks.append(f"{name} is left out: it holds no numbers")
            continue
        out[f"obs/{name}"] = vectors(values)
        spec[name] = vector_spec(name, out[f"obs/{name}"])
    return spec, sources


def _rewards(columns: Columns, rows: _Rows) -> np.ndarray:
    values = rows.load("reward").reshape(-1)
    if len(values) != len(rows.at):
        raise damaged(columns.file("reward"), "reward holds several numbers a row")
    with np.errstate(over="ignore"):
        return np.where(rows.first, np.float32(0), values.astype(np.float32))


def _infos(columns: Columns, rows: _Rows, names: Sequence[str], remarks: list[str]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name in names:
        values = None if name in columns.pictures else info_column(rows.load(name))
        if values is None or not np.isfinite(values).all():
            remarks.append(f"column {name!r} is left out: it is no column of finite numbers")
        else:
            found[name] = values
    return found
