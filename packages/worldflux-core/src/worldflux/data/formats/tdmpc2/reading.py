"""TD-MPC2's data: ``.pt`` files of ``[episodes, rows]`` for many tasks, or of the flat rows of an online buffer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec

from ...bounds import ActionBounds
from ...recording import DatasetError, EpisodeTable, Recording
from ..common.actions import BOUNDS, WAY_OUT, ActionOptions, scaling, unit_actions
from ..common.guard import refuse_unknown
from ..common.lines import observation_names
from ..common.npz_files import naturally, within
from .file import TaskFile
from .torch_files import is_torch_file


class TDMPC2:
    """Files as TD-MPC2's authors publish them: the action and the reward of a row are those that led to it."""

    name = "tdmpc2"

    def detect(self, path: Path) -> bool:
        """Tell by the files' ending and first bytes."""
        return any(map(is_torch_file, _files(path)[:1]))

    def open(
        self,
        path: Path,
        *,
        tasks: int | Sequence[int] | None = None,
        obs_dim: int | None = None,
        action_dim: int | None = None,
        **options: Any,
    ) -> Recording:
        """Return the episodes of all files, or of some ``tasks``.

        ``action_low``, ``action_high`` and ``action_scale`` say what becomes -1 and 1. ``obs_dim`` and ``action_dim``
        cut the zeros off with which a narrow task's rows are padded. Raises DatasetError for damaged files and for such
        as want code to be run, ConfigurationError for options that do not fit.
        """
        refuse_unknown(self.name, options, ("tasks", "obs_dim", "action_dim", *BOUNDS))
        usable = ActionOptions.of(options)
        paths = _files(path)
        if not paths:
            raise DatasetError(f"{path} holds no .pt files")
        files = [TaskFile(file) for file in (within(path, paths) if path.is_dir() else paths)]
        for one in files[1:]:
            one.check_alike(files[0])
        chosen = [one.episodes(_wanted(tasks)) for one in files]
        if not sum(map(len, chosen)):
            has = sorted({int(task) for one in files for task in np.unique(one.tasks)})
            raise ConfigurationError(f"tasks={tasks!r}: {path} has no such task, it has {has}")
        table = _table(files, chosen)
        widths = {name: rows.shape[1:] for name, rows in files[0].observations.items()}
        cut = {"action": _dim("action_dim", action_dim, files[0].action.shape[1])}
        vectors = [name for name, shape in widths.items() if len(shape) == 1]
        if obs_dim is not None and len(vectors) != 1:
            raise ConfigurationError(f"obs_dim cuts the one vector there is, this data has {len(vectors)}")
        cut |= {name: _dim("obs_dim", obs_dim, widths[name][0]) for name in vectors}
        for one, which in zip(files, chosen):
            for name, dim in cut.items():
                one.check_padding(name, dim, which)
        span = np.min([one.least for one in files], 0), np.max([one.most for one in files], 0)
        span = span[0][: cut["action"]], span[1][: cut["action"]]
        bounds = usable.bounds(cut["action"], lambda: span)
        called = observation_names(widths)
        there = {int(task) for one, which in zip(files, chosen) for task in np.unique(one.tasks[which])}
        return TaskRecording(
            self.name,
            path,
            {called[name]: _spec(called[name], shape, cut.get(name)) for name, shape in widths.items()},
            ActionSpec("continuous", cut["action"]),
            table,
            {},
            {"task": ModalitySpec(ModalityKind.OTHER, (), "int64", None, "task")} if files[0].has_tasks else {},
            tuple(_remarks(files, span, bounds)),
            {"files": len(files), "tasks": sorted(there)},
            tuple(paths),
            sources=files,
            source=np.repeat(np.arange(len(files)), [len(which) for which in chosen]),
            number=np.concatenate(chosen),
            stored={called[name]: name for name in called},
            cut=cut,
            bounds=bounds,
            action_bounds=None if bounds is None else ActionBounds.of(*bounds),
        )


@dataclass
class TaskRecording(Recording):
    """Rows read from mapped files: episode e is number ``number[e]`` of file ``source[e]``."""

    sources: list[TaskFile] = field(default_factory=list)
    source: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    number: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    stored: dict[str, str] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    bounds: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def has_rewards(self) -> bool:
        """They do."""
        return True

    @property
    def names(self) -> tuple[str, ...]:
        """Every column that ``read`` gives."""
        return (*(f"obs/{n}" for n in self.obs_spec), "action", "reward", *(f"info/{n}" for n in self.info_spec))

    def read(self, name: str, episode: int, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Return rows ``start:stop:step`` of a column in one episode, ``[n, ...]``."""
        file, number = self.sources[int(self.source[episode])], int(self.number[episode])
        rows = np.arange(start, min(stop, int(self.episodes.lengths[episode])), step)
        if name == "action":
            values = file.actions(number, rows)[:, : self.cut["action"]]
            if self.bounds is not None:
                values = unit_actions(values, *self.bounds)
                values[rows == int(self.episodes.lengths[episode]) - 1] = 0
            return values
        if name == "reward":
            return file.rewards(number, rows)
        if name == "info/task":
            return np.full(len(rows), file.tasks[number], np.int64)
        stored = self.stored[name.removeprefix("obs/")]
        values = file.observed(stored, number, rows)
        return values[:, : self.cut[stored]] if stored in self.cut else values

    def close(self) -> None:
        """Nothing is open: the files are mapped for as long as their rows are in use."""


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else naturally(path.glob("*.pt"))


def _wanted(tasks: int | Sequence[int] | None) -> list[int] | None:
    if tasks is None:
        return None
    wanted = [tasks] if isinstance(tasks, int) else list(tasks)
    if not wanted or not all(isinstance(one, int) and not isinstance(one, bool) for one in wanted):
        raise ConfigurationError(f"tasks is {tasks!r}, expected numbers of tasks, such as [3, 6]")
    return wanted


def _dim(option: str, given: int | None, width: int) -> int:
    if given is None:
        return width
    if isinstance(given, bool) or not isinstance(given, int) or not 0 < given <= width:
        raise ConfigurationError(f"{option} is {given!r}, expected a whole number from 1 to {width}")
    return given


def _table(files: list[TaskFile], chosen: list[np.ndarray]) -> EpisodeTable:
    pairs = list(zip(files, chosen))
    ids = [f"{one.file.stem}-{number}" for one, which in pairs for number in which]
    lengths = np.concatenate([one.lengths[which] for one, which in pairs])
    return EpisodeTable.of(ids, lengths, np.concatenate([one.terminal[which] for one, which in pairs]))


def _spec(name: str, shape: tuple[int, ...], dim: int | None) -> ModalitySpec:
    if dim is None:
        return ModalitySpec(ModalityKind.IMAGE, shape, "uint8", "CHW", name)
    return ModalitySpec(ModalityKind.VECTOR, (dim,), "float32", None, name)


def _remarks(
    files: list[TaskFile], span: tuple[np.ndarray, np.ndarray], bounds: tuple[np.ndarray, np.ndarray] | None
) -> list[str]:
    out = []
    if not files[0].has_ends:
        out.append("no end flags: every episode is read as cut short by time")
    if files[0].has_tasks:
        out.append("rows of narrow tasks may be padded with zeros: tasks=, obs_dim= and action_dim= read one without")
    if bounds is not None:
        out.append(scaling(*bounds))
        span = unit_actions(span[0], *bounds), unit_actions(span[1], *bounds)
    if (reach := float(np.abs(span).max())) > 1.0001:
        out.append(f"actions lie outside [-1, 1] (up to {reach:.4g}): {WAY_OUT[bounds is not None]}")
    return out
