"""OGBench's files (npz): trajectories in one line that end by time, with all of their states."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.spec import ModalitySpec
from worldflux.words.counts import counted

from ..npz import npz_names
from ..recording import EpisodeTable, Recording, damaged
from .common.actions import OPTIONS, ActionOptions, told_by_data
from .common.arrivals import Arrivals
from .common.columns import check_finite, info_column, picked, vector_spec, vectors
from .common.guard import refuse_unknown, the_file
from .common.hdf5 import check_rows
from .common.images import as_images, image_spec, is_image
from .d4rl import ENDINGS, Flat, flat_file, one_a_row

_COLUMNS = ("observations", "actions", "terminals")
_OWN = (*_COLUMNS, "next_observations", "valids", "rewards", "masks")
_BY_TIME = (
    "terminals mark the last row of each trajectory, which ended by time, as OGBench has them: no episode is known to "
    "have ended in truth; if they say that it did, the format is d4rl"
)


class OgBench:
    """One file of OGBench's layout: as it is downloaded, or "regular" or "compact" as its loader returns it."""

    name = "ogbench"

    def detect(self, path: Path) -> bool:
        """Tell whether ``path`` is an npz file of such columns, or a folder of one, that is none of D4RL's."""
        try:
            files = [path] if path.is_file() else list(path.glob("*.npz"))
            names = set(npz_names(files[0])) if len(files) == 1 else set()
        except Exception:
            return False
        others = "timeouts" in names or any(name.startswith("infos/") for name in names)
        return {*_COLUMNS} <= names and not others and ("rewards" not in names or bool({"valids", "masks"} & names))

    def open(self, path: Path, **options: Any) -> Recording:
        """Return the dataset in ``path``.

        Options: ``info`` (names of other columns to keep, all by default), and those of actions. Raises DatasetError,
        ConfigurationError.
        """
        refuse_unknown(self.name, options, (*OPTIONS, "info"))
        flat = flat_file(the_file(path, ENDINGS, "a set of OGBench"))
        try:
            return _recording(path, flat, options)
        finally:
            if flat.hdf5 is not None:
                flat.hdf5.close()


def _recording(path: Path, flat: Flat, options: Mapping[str, Any]) -> Recording:
    actions = flat.load("actions")
    count = len(actions) if actions.ndim else 0
    if not count:
        raise damaged(flat.path, "it has no row")
    following, remarks = "next_observations" in flat.names, [_BY_TIME]
    steps = _rows_of_each(flat, count, remarks)
    arrivals = Arrivals(steps, extra=following)
    table = EpisodeTable.of(range(len(steps)), arrivals.lengths)
    spec, shown = _observations(flat, count, arrivals)
    taken = np.ones(table.rows, bool)
    taken[np.cumsum(table.lengths) - 1] = False  # the last state's action led nowhere
    acted = told_by_data(arrivals.states(actions), taken, ActionOptions.of(options), place=flat.path)
    out = {"obs/obs": shown, "action": acted.rows}
    if "rewards" in flat.names:
        out["reward"] = arrivals.rewards(one_a_row(flat.path, "rewards", flat.load("rewards"), count))
    infos, lost = _infos(flat, arrivals, options.get("info"))
    if following and infos:
        remarks.append("an episode's last row repeats the columns of the row before, but for the observation")
    out |= {f"info/{name}": rows for name, rows in infos.items()}
    for name, rows in out.items():
        check_finite(name.replace("obs/obs", "observations"), rows, table, flat.path)
    remarks += [f"{name} is left out: it is no column of numbers that every row has" for name in lost]
    remarks += ["masks are left out: a trajectory goes on where its task is solved"] if "masks" in flat.names else []
    return Recording(
        "ogbench", path, spec, acted.spec, table, out, {name: vector_spec(name, rows) for name, rows in infos.items()},
        (*remarks, *acted.remarks), {}, (flat.path,), action_bounds=acted.bounds,
    )  # fmt: skip


def _rows_of_each(flat: Flat, count: int, remarks: list[str]) -> np.ndarray:
    """How many of the file's rows each trajectory has, int64 ``[E]``."""
    for name in _COLUMNS:
        if name not in flat.names:
            raise damaged(flat.path, f"it has no {name}, but {', '.join(flat.names)}")
    name = "valids" if "valids" in flat.names else "terminals"
    flags = one_a_row(flat.path, name, flat.load(name), count)
    if not np.isin(flags, (0, 1)).all():
        raise damaged(flat.path, f"{name} hold other numbers than 0 and 1")
    ends = flags == (name == "terminals")  # of a compact set two terminals stand at each end, and one row is not valid
    open_end = not ends[-1]
    ends[-1] = True
    steps = np.diff(np.flatnonzero(ends) + 1, prepend=0).astype(np.int64)
    if (steps == 1).any() and "next_observations" not in flat.names:
        raise damaged(
            flat.path, "the trajectory has one row", episode=int(np.argmax(steps == 1)),
            way_out="in a compact set two terminals stand at each end: save its valids, too",
        )  # fmt: skip
    if open_end:
        remarks.append(f"the last episode ends with the file, after {counted(int(steps[-1]), 'row')}, without a flag")
    return steps


def _observations(flat: Flat, count: int, arrivals: Arrivals) -> tuple[dict[str, ModalitySpec], np.ndarray]:
    seen = flat.load("observations")
    check_rows(flat.path, "observations", len(seen) if seen.ndim else 0, count)
    after = flat.optional("next_observations")
    if after is not None and after.shape != seen.shape:
        raise damaged(flat.path, f"next_observations has shape {after.shape}, observations {seen.shape}")
    shape = seen.shape[1:]
    if is_image(shape, seen.dtype):
        rows = as_images(arrivals.states(seen, None if after is None else after[arrivals.last]), shape)
        return {"obs": image_spec("obs", shape)}, rows
    seen, after = vectors(seen), None if after is None else vectors(after)
    rows = arrivals.states(seen, None if after is None else after[arrivals.last])
    return {"obs": vector_spec("obs", rows)}, rows


def _infos(flat: Flat, arrivals: Arrivals, chosen: Any) -> tuple[dict[str, np.ndarray], list[str]]:
    """Other columns, such as qpos, qvel and button_states, and the names of those that are no columns."""
    found, lost = {}, []
    names = [name for name in flat.names if name not in _OWN and "/" not in name]
    for name in picked(flat.path, "info", chosen, names):
        rows = flat.load(name)
        kept = info_column(rows) if rows.ndim and len(rows) == int(arrivals.steps.sum()) else None
        if kept is None:
            lost.append(name)
        else:
            found[name] = arrivals.states(kept)
    return found, lost
