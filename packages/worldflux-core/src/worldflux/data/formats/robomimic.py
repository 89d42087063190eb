"""RoboMimic's HDF5: a group ``data/demo_N`` for each demonstration, named observations inside."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ModalitySpec
from worldflux.words.counts import counted

from ..recording import EpisodeTable, damaged
from .common.actions import OPTIONS, ActionOptions, told_by_data
from .common.arrivals import Arrivals, disagreement, stands_in
from .common.columns import check_finite, info_column, picked, vector_spec
from .common.guard import faults, refuse_unknown, the_file
from .common.hdf5 import Hdf5File, Hdf5Rows, Piece, check_rows, layout_remark, shows
from .common.images import as_images, image_spec, is_image
from .common.lazy import LazyRecording, Source

_DEMO = re.compile(r"demo_(\d{1,9})")


@dataclass
class Demo:
    """A demonstration of ``steps`` transitions: its name, its group, its place."""

    name: str
    group: Any
    index: int
    steps: int

    @property
    def place(self) -> str:
        """As an error names it."""
        return f"{self.index} ({self.name})"


class RoboMimic:
    """One HDF5 file of RoboMimic's layout."""

    name = "robomimic"

    def detect(self, path: Path) -> bool:
        """Tell whether ``path`` is such a file, or a folder of one."""
        return shows(path, lambda root: "data" in root and any(_DEMO.fullmatch(name) for name in root["data"]))

    def open(self, path: Path, **options: Any) -> LazyRecording:
        """Return the dataset in ``path``.

        Options: ``dones`` (``"terminal"``: a demonstration's last ``dones`` is its end in truth; ``"time"``: it is
        none), ``tail`` (where there is no ``next_obs``: ``"stand_in"`` or ``"drop"``), ``info=[]`` (leave
        the states out), and those of actions. Raises DatasetError, ConfigurationError.
        """
        refuse_unknown(self.name, options, ("dones", "tail", *OPTIONS, "info"))
        if options.get("dones", "terminal") not in ("terminal", "time"):
            raise ConfigurationError(f"dones is {options['dones']!r}, expected 'terminal' or 'time'")
        file = Hdf5File(the_file(path, (".hdf5", ".h5"), "a RoboMimic set"))
        try:
            return _recording(path, file, options)
        finally:
            file.close()  # its pictures open it again


def _recording(path: Path, file: Hdf5File, options: Mapping[str, Any]) -> LazyRecording:
    demos = _demos(file)
    has = _columns_of_all(file, demos)
    following = "next_obs" in has
    said: list[str] = []
    kept = following or stands_in(options.get("tail"), pays=bool({"rewards", "dones"} & has), remarks=said)
    arrivals = Arrivals(np.array([demo.steps for demo in demos]), extra=kept)
    dones = _dones(file, demos, has)
    ended = dones[arrivals.last] & kept & (options.get("dones", "terminal") == "terminal")
    table = EpisodeTable.of(
        [demo.name for demo in demos], arrivals.lengths, ended, np.full(len(demos), kept and not following)
    )
    columns: dict[str, np.ndarray] = {}
    spec, sources, remarks = _observations(file, demos, arrivals, following, columns)
    if "rewards" in has:
        columns["reward"] = arrivals.rewards(_flat(file, demos, "rewards").reshape(-1))
    raw = _flat(file, demos, "actions", rows_of_one=False)
    acted = told_by_data(arrivals.states(raw), ~arrivals.extra, ActionOptions.of(options), place=file.path)
    columns["action"] = acted.rows
    info = {}
    if picked(path, "info", options.get("info"), ["states"] if "states" in has else []):
        states = info_column(_flat(file, demos, "states", rows_of_one=False))
        if states is not None:
            info["states"] = columns["info/states"] = arrivals.states(states)
    for name, rows in columns.items():
        check_finite(name.replace("obs/", "obs ", 1), rows, table, file.path)
    about, more = _about(file, demos)
    remarks += [*_ends(file, dones, arrivals, ended), *said, *acted.remarks, *more]
    if info and kept:
        remarks.append("states belong to the observation an action was taken in: an episode's last row repeats them")
    return LazyRecording(
        "robomimic", path, spec, acted.spec, table, columns, {n: vector_spec(n, rows) for n, rows in info.items()},
        (*remarks, *file.slow), about, (file.path,), sources,
        action_bounds=acted.bounds,
    )  # fmt: skip


def _demos(file: Hdf5File) -> list[Demo]:
    data = file.at("data")
    if not file.is_group(data):
        raise damaged(file.path, "data is no group")
    found = sorted((int(match[1]), name) for name in file.names(data) if (match := _DEMO.fullmatch(name)))
    if not found:
        raise damaged(file.path, "data holds no demo_N")
    demos = []
    for index, (_, name) in enumerate(found):
        place = f"{index} ({name})"
        group = file.at(name, inside=data, episode=place)
        actions = file.dataset("actions", inside=group, episode=place)
        steps = actions.shape[0] if actions.shape else 0
        if not steps:
            raise damaged(file.path, "it has no step", episode=place, way_out="leave it out")
        with faults(file.path, "num_samples", episode=place):
            said = int(group.attrs.get("num_samples", steps))
        if said != steps:
            raise damaged(file.path, f"num_samples is {said}, it holds {counted(steps, 'action')}", episode=place)
        demos.append(Demo(name, group, index, steps))
    return demos


def _columns_of_all(file: Hdf5File, demos: list[Demo]) -> set[str]:
    """The names that every demonstration has. Raises DatasetError where some have what the others lack."""
    first = set(file.names(demos[0].group))
    for demo in demos:
        own = set(file.names(demo.group, episode=demo.place))
        for name in ("obs", "next_obs", "rewards", "dones"):
            if (name in own) != (name in first):
                has = "has" if name in own else "has no"
                raise damaged(file.path, f"it {has} {name}, unlike {demos[0].name}", episode=demo.place)
        first &= own | {"obs", "next_obs", "rewards", "dones"}
    if "obs" not in first:
        raise damaged(
            file.path, "it holds no obs", episode=demos[0].place,
            way_out="a raw set of states only gets its observations by robomimic's dataset_states_to_obs.py",
        )  # fmt: skip
    return first


def _flat(file: Hdf5File, demos: list[Demo], where: str, *, rows_of_one: bool = True) -> np.ndarray:
    """A column of every demonstration in one line. Raises DatasetError for other counts, shapes or kinds."""
    parts: list[np.ndarray] = []
    for demo in demos:
        rows = file.load(where, inside=demo.group, episode=demo.place)
        check_rows(file.path, where, len(rows) if rows.ndim else 0, demo.steps, episode=demo.place)
        same = not parts or (rows.shape[1:] == parts[0].shape[1:] and rows.dtype.kind == parts[0].dtype.kind)
        if not same or (rows_of_one and rows.size != demo.steps):
            raise damaged(
                file.path, f"{where} is {rows.dtype}{list(rows.shape)}"
                + (f", {demos[0].name} has rows {parts[0].dtype}{list(parts[0].shape[1:])}" if parts else ""),
                episode=demo.place,
            )  # fmt: skip
        parts.append(rows)
    return np.concatenate(parts)


def _dones(file: Hdf5File, demos: list[Demo], has: set[str]) -> np.ndarray:
    if "dones" not in has:
        return np.zeros(sum(demo.steps for demo in demos), bool)
    dones = _flat(file, demos, "dones").reshape(-1)
    if not np.isin(dones, (0, 1)).all():
        raise damaged(file.path, "dones hold other numbers than 0 and 1")
    return dones != 0


def _observations(
    file: Hdf5File, demos: list[Demo], arrivals: Arrivals, following: bool, out: dict[str, np.ndarray]
) -> tuple[dict[str, ModalitySpec], dict[str, Source], list[str]]:
    """The spec by name, where pictures come from, and remarks; vectors go to ``out``."""
    names = file.names(file.at("obs", inside=demos[0].group))
    for demo in demos:
        for group in ("obs", "next_obs")[: 1 + following]:
            if set(file.names(file.at(group, inside=demo.group, episode=demo.place))) != set(names):
                raise damaged(file.path, f"{group} holds other names than {names}", episode=demo.place)
    spec: dict[str, ModalitySpec] = {}
    sources: dict[str, Source] = {}
    remarks: list[str] = []
    for name in sorted(names):
        found = file.dataset(f"obs/{name}", inside=demos[0].group, episode=demos[0].place)
        if is_image(found.shape[1:], found.dtype):
            shape = tuple(found.shape[1:])
            spec[name] = image_spec(name, shape)
            sources[f"obs/{name}"] = _pictures(file, demos, name, found, following)
            remark = layout_remark(name, found)
        else:
            remark = _vectors(file, demos, arrivals, name, following, out)
            if not out[f"obs/{name}"].shape[1]:
                del out[f"obs/{name}"]
                continue
            spec[name] = vector_spec(name, out[f"obs/{name}"])
        remarks += [remark] if remark else []
    if not spec:
        raise damaged(file.path, "obs holds no numbers")
    return spec, sources, remarks


def _vectors(
    file: Hdf5File, demos: list[Demo], arrivals: Arrivals, name: str, following: bool, out: dict[str, np.ndarray]
) -> str | None:
    count = int(arrivals.steps.sum())
    with np.errstate(over="ignore"):
        seen, after = (
            _flat(file, demos, f"{group}/{name}", rows_of_one=False).reshape(count, -1).astype(np.float32)
            if group == "obs" or following
            else None
            for group in ("obs", "next_obs")
        )
    assert seen is not None
    if after is not None and after.shape != seen.shape:
        raise damaged(file.path, f"next_obs/{name} has shape {after.shape}, obs/{name} {seen.shape}")
    out[f"obs/{name}"] = arrivals.states(seen, None if after is None else after[arrivals.last])
    wrong, episode, row = disagreement(seen, after, arrivals.steps) if after is not None else (0, 0, 0)
    if not wrong:
        return None
    return (
        f"in {wrong} places (first: episode {demos[episode].place}, row {row}) obs/{name} is not the next_obs/{name} "
        "of the row before: the file is damaged, or rows were left out"
    )


def _pictures(file: Hdf5File, demos: list[Demo], name: str, first: Any, following: bool) -> Hdf5Rows:
    pieces = []
    for demo in demos:
        for group in ("obs", "next_obs")[: 1 + following]:
            found = file.dataset(f"{group}/{name}", inside=demo.group, episode=demo.place)
            if found.shape[1:] != first.shape[1:] or found.dtype != first.dtype:
                raise damaged(
                    file.path, f"{group}/{name} is {found.dtype}{list(found.shape)}, {demos[0].name} has rows "
                    f"{first.dtype}{list(first.shape[1:])}", episode=demo.place,
                )  # fmt: skip
            check_rows(file.path, f"{group}/{name}", found.shape[0], demo.steps, episode=demo.place)
        own = (Piece(f"data/{demo.name}/obs/{name}", 0, demo.steps),)
        pieces.append(own + ((Piece(f"data/{demo.name}/next_obs/{name}", demo.steps - 1, 1),) if following else ()))
    return Hdf5Rows(file, f"obs {name!r}", pieces, partial(as_images, shape=tuple(first.shape[1:])))


def _ends(file: Hdf5File, dones: np.ndarray, arrivals: Arrivals, ended: np.ndarray) -> list[str]:
    remarks = []
    if ended.any():
        remarks.append(
            f"dones = 1 ends {int(ended.sum())} of {counted(len(ended), 'demonstration')} and is taken for an end in "
            "truth: RoboMimic sets it for success, for time, or for both, and the file does not say which; "
            "dones='time' takes none for the truth"
        )
    inner = dones.copy()
    inner[arrivals.last] = False
    if inner.any():
        remarks.append(
            f"{counted(int(inner.sum()), 'row before the last says', 'rows before the last say')} dones = 1 as well: "
            "demonstrations are kept whole"
        )
    return remarks


def _about(file: Hdf5File, demos: list[Demo]) -> tuple[dict[str, Any], list[str]]:
    """The environment's arguments and the splits that the file names, and what is to be said of them."""
    about: dict[str, Any] = {}
    with faults(file.path, "what is said of data"):
        said = dict(file.at("data").attrs)
    if isinstance(said.get("env_args"), str):
        about["env_args"] = said["env_args"][:10_000]
    remarks = []
    total, steps = said.get("total"), sum(demo.steps for demo in demos)
    if isinstance(total, (int, np.integer)) and int(total) != steps:
        remarks.append(f"data says total = {int(total)}, the demonstrations have {counted(steps, 'step')}")
    if "mask" not in file.names(file.root) or not file.is_group(masks := file.at("mask")):
        return about, remarks
    known = {demo.name for demo in demos}
    splits: dict[str, list[str]] = {}
    for name in file.names(masks):
        with faults(file.path, f"mask/{name}"):
            listed = np.ravel(file.dataset(name, inside=masks)[()]).tolist()
        splits[name] = [one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in listed]
        if not known.issuperset(splits[name]):
            remarks.append(f"mask/{name} names demonstrations that are not there")
    if splits:
        counts = ", ".join(f"{name} ({len(ids)})" for name, ids in splits.items())
        remarks.append(f"the file names the splits {counts}: the provenance lists them, nothing is split by them")
        about["splits"] = splits
    return about, remarks
