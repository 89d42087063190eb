"""D4RL's flat files (HDF5, npz): transitions in one line, episodes ending at ``terminals`` or ``timeouts``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ModalitySpec
from worldflux.words.counts import counted

from ..npz import npz_arrays, npz_columns, npz_names
from ..recording import EpisodeTable, damaged
from .common.actions import OPTIONS, ActionOptions, told_by_data
from .common.arrivals import Arrivals, disagreement, stands_in
from .common.columns import check_finite, info_column, picked, vector_spec, vectors
from .common.guard import refuse_unknown, the_file
from .common.hdf5 import Hdf5File, Hdf5Rows, Piece, check_rows, hdf5_in, layout_remark, shows
from .common.images import as_images, image_spec, is_image
from .common.lazy import LazyRecording, Source

ENDINGS = (".hdf5", ".h5", ".npz")
_COLUMNS = ("observations", "actions")


@dataclass
class Flat:
    """A file's columns: ``names``, and what loads one whole. ``hdf5`` is the file where it is one."""

    path: Path
    names: tuple[str, ...]
    load: Callable[[str], np.ndarray]
    hdf5: Hdf5File | None = None

    def optional(self, name: str) -> np.ndarray | None:
        """Return a column, or None."""
        return self.load(name) if name in self.names else None


class D4rl:
    """One HDF5 or npz file of D4RL's layout."""

    name = "d4rl"

    def detect(self, path: Path) -> bool:
        """Tell whether ``path`` is such a file, or a folder of one; HDF5 that nothing can open is claimed, too."""
        if hdf5_in(path) is not None:
            return shows(path, lambda root: all(name in root for name in _COLUMNS)) or not shows(path, bool)
        try:
            files = [path] if path.is_file() else list(path.glob("*.npz"))
            return len(files) == 1 and {*_COLUMNS, "terminals"} <= set(npz_names(files[0]))
        except Exception:
            return False

    def open(self, path: Path, **options: Any) -> LazyRecording:
        """Return the dataset in ``path``.

        Options: ``tail`` (``"stand_in"`` keeps the last reward and end in a marked row, ``"drop"`` leaves them out),
        ``step_limit`` (steps after which an episode ends, for files without timeouts), ``info`` (names of
        infos to keep, all by default), and those of actions. Raises DatasetError, ConfigurationError.
        """
        refuse_unknown(self.name, options, ("tail", "step_limit", *OPTIONS, "info"))
        flat = flat_file(the_file(path, ENDINGS, "a D4RL set"))
        try:
            return _recording(path, flat, options)
        finally:
            if flat.hdf5 is not None:
                flat.hdf5.close()  # its pictures open it again


def flat_file(file: Path) -> Flat:
    """Return the columns of a file by its ending. Raises DatasetError."""
    if file.suffix.lower() == ".npz":
        names = tuple(npz_columns(file))
        return Flat(file, names, lambda name: npz_arrays(file, (name,))[name])
    hdf5 = Hdf5File(file)
    names = tuple(hdf5.names(hdf5.root))
    for group in ("infos", "metadata"):
        if group in names and hdf5.is_group(found := hdf5.at(group)):
            names += tuple(f"{group}/{name}" for name in hdf5.names(found))
    return Flat(file, names, hdf5.load, hdf5)


def _recording(path: Path, flat: Flat, options: Mapping[str, Any]) -> LazyRecording:
    actions = flat.load("actions")
    count = len(actions) if actions.ndim else 0
    columns = {name: flat.optional(name) for name in ("rewards", "terminals", "timeouts")}
    for name, rows in columns.items():
        if rows is not None:
            columns[name] = one_a_row(flat.path, name, rows, count)
    if not count:
        raise damaged(flat.path, "it has no row")
    rewards, terminals, timeouts = columns.values()
    steps, remarks = _episodes(flat, count, terminals, timeouts, options.get("step_limit"))
    following = "next_observations" in flat.names
    pays = rewards is not None or terminals is not None
    kept = following or stands_in(options.get("tail"), pays=pays, remarks=remarks)
    arrivals = Arrivals(steps, extra=kept)
    ended = np.zeros(len(steps), bool) if terminals is None else terminals[arrivals.last] != 0
    table = EpisodeTable.of(
        range(len(steps)), arrivals.lengths, ended & kept, np.full(len(steps), kept and not following)
    )
    out: dict[str, np.ndarray] = {}
    spec, sources, more = _observations(flat, arrivals, following, out)
    if rewards is not None:
        out["reward"] = arrivals.rewards(rewards)
    acted = told_by_data(arrivals.states(actions), ~arrivals.extra, ActionOptions.of(options), place=flat.path)
    out["action"] = acted.rows
    infos, lost = _infos(flat, arrivals, options.get("info"))
    out |= {f"info/{name}": rows for name, rows in infos.items()}
    for name, rows in out.items():
        check_finite(name.replace("obs/obs", "observations"), rows, table, flat.path)
    slow = flat.hdf5.slow if flat.hdf5 is not None else []
    return LazyRecording(
        "d4rl", path, spec, acted.spec, table, out, {name: vector_spec(name, rows) for name, rows in infos.items()},
        (*remarks, *more, *acted.remarks, *lost, *slow), _metadata(flat), (flat.path,), sources,
        action_bounds=acted.bounds,
    )  # fmt: skip


def one_a_row(file: Path, name: str, rows: np.ndarray, count: int) -> np.ndarray:
    """Return a column of one number a row as ``[count]``. Raises DatasetError."""
    check_rows(file, name, len(rows) if rows.ndim else 0, count)
    if rows.size != count:
        raise damaged(file, f"{name} has shape {rows.shape}, expected one number a row")
    return rows.reshape(count)


def _episodes(
    flat: Flat, count: int, terminals: np.ndarray | None, timeouts: np.ndarray | None, limit: Any
) -> tuple[np.ndarray, list[str]]:
    """How many steps each episode has, int64 ``[E]``, and what is to be said of it."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ConfigurationError(f"step_limit is {limit!r}, expected a whole number of steps")
    ends = np.zeros(count, bool)
    for flags in (terminals, timeouts):
        if flags is not None:
            if not np.isin(flags, (0, 1)).all():
                raise damaged(flat.path, "terminals or timeouts hold other numbers than 0 and 1")
            ends |= flags != 0
    remarks = []
    if timeouts is None:
        way_out = (
            f"step_limit={limit} ends them after so many steps" if limit else
            "episodes that ended by time run together: step_limit= ends them after the environment's number of steps"
        )  # fmt: skip
        remarks.append(f"{flat.path.name} has no timeouts, so that ends by time cannot be seen; {way_out}")
    if terminals is None:
        remarks.append(f"{flat.path.name} has no terminals: no episode is known to have ended in truth")
    open_end = not ends[-1]
    ends[-1] = True
    stops = np.flatnonzero(ends) + 1
    steps = np.diff(stops, prepend=0)
    if limit is not None:
        steps = np.concatenate([[limit] * (one // limit) + [one % limit] * bool(one % limit) for one in steps.tolist()])
    if limit is None and timeouts is None and not open_end and "rewards" not in flat.names and _all_alike(steps):
        remarks.append(
            f"nothing is paid and all of {counted(len(steps), 'episode')} end in truth after "
            f"{counted(int(steps[0]), 'step')}: if they end by time, as OGBench's do, read them as "
            f"ogbench:{flat.path.name}, or they teach that every episode ends there"
        )
    if open_end:
        remarks.append(f"the last episode ends with the file, after {counted(steps[-1], 'step')}, without a flag")
    return steps.astype(np.int64), remarks


def _all_alike(steps: np.ndarray) -> bool:
    return len(steps) > 1 and bool((steps == steps[0]).all())


def _observations(
    flat: Flat, arrivals: Arrivals, following: bool, out: dict[str, np.ndarray]
) -> tuple[dict[str, ModalitySpec], dict[str, Source], list[str]]:
    """The spec, where pictures come from, and remarks; vectors go to ``out``."""
    count = int(arrivals.steps.sum())
    if flat.hdf5 is not None:
        found = flat.hdf5.dataset("observations")
        check_rows(flat.path, "observations", found.shape[0] if found.shape else 0, count)
        if is_image(found.shape[1:], found.dtype):
            return _pictures(flat, flat.hdf5, found, arrivals, following)
    seen = flat.load("observations")
    check_rows(flat.path, "observations", len(seen) if seen.ndim else 0, count)
    after = flat.load("next_observations") if following else None
    if after is not None and after.shape != seen.shape:
        raise damaged(flat.path, f"next_observations has shape {after.shape}, observations {seen.shape}")
    shape = seen.shape[1:]
    if is_image(shape, seen.dtype):
        out["obs/obs"] = as_images(arrivals.states(seen, None if after is None else after[arrivals.last]), shape)
        return {"obs": image_spec("obs", shape)}, {}, []
    seen, after = vectors(seen), None if after is None else vectors(after)
    out["obs/obs"] = arrivals.states(seen, None if after is None else after[arrivals.last])
    remarks = [] if after is None else _inconsistent(flat, seen, after, arrivals)
    return {"obs": vector_spec("obs", out["obs/obs"])}, {}, remarks


def _inconsistent(flat: Flat, seen: np.ndarray, after: np.ndarray, arrivals: Arrivals) -> list[str]:
    wrong, episode, row = disagreement(seen, after, arrivals.steps)
    if not wrong:
        return []
    return [
        f"{flat.path.name}: in {wrong} places (first: episode {episode}, row {row}) an observation is not the "
        "next_observations of the row before: the file is damaged, or episodes run together there"
    ]


def _pictures(
    flat: Flat, file: Hdf5File, found: Any, arrivals: Arrivals, following: bool
) -> tuple[dict[str, ModalitySpec], dict[str, Source], list[str]]:
    shape = tuple(found.shape[1:])
    first = arrivals.last - arrivals.steps + 1
    pieces = [
        (Piece("observations", int(start), int(steps)),)
        + ((Piece("next_observations", int(last), 1),) if following else ())
        for start, steps, last in zip(first, arrivals.steps, arrivals.last)
    ]
    if following and file.dataset("next_observations").shape != found.shape:
        raise damaged(flat.path, "next_observations has another shape than observations")
    remark = layout_remark("observations", found)
    source = Hdf5Rows(file, "observations", pieces, partial(as_images, shape=shape))
    return {"obs": image_spec("obs", shape)}, {"obs/obs": source}, [remark] if remark else []


def _infos(flat: Flat, arrivals: Arrivals, chosen: Any) -> tuple[dict[str, np.ndarray], list[str]]:
    found: dict[str, np.ndarray] = {}
    lost = []
    names = [name.removeprefix("infos/") for name in flat.names if name.startswith("infos/")]
    for name in picked(flat.path, "info", chosen, names):
        where = f"infos/{name}"
        if flat.hdf5 is not None:
            here = flat.hdf5.at(where)
            if flat.hdf5.is_group(here) or getattr(here, "dtype", np.dtype(object)).kind not in "biuf":
                lost.append(name)
                continue
        rows = flat.load(where)
        kept = info_column(rows) if rows.ndim and len(rows) == int(arrivals.steps.sum()) else None
        if kept is None:
            lost.append(name)
        else:
            found[name] = arrivals.states(kept)
    remarks = [f"infos/{name} is left out: it is no column of numbers that every row has" for name in lost]
    if found and arrivals.extra.any():
        remarks.append(
            "infos belong to the observation that an action was taken in: an episode's last row repeats them"
        )
    return found, remarks


def _metadata(flat: Flat) -> dict[str, Any]:
    """What the file says of itself in a line: numbers and short texts."""
    about: dict[str, Any] = {}
    if flat.hdf5 is None:
        return about
    for where in (name for name in flat.names if name.startswith("metadata/")):
        try:
            value = flat.hdf5.dataset(where)[()]
        except Exception:
            continue
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, (str, int, float)) and len(str(value)) < 200:
            about[where.removeprefix("metadata/")] = value
    return {"metadata": about} if about else {}
