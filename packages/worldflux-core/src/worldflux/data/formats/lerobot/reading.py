"""The format ``lerobot``: LeRobotDataset v3.0 and v2.1, tables in Parquet and cameras in Parquet or video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from worldflux.core.errors import ConfigurationError, did_you_mean
from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec

from ...recording import EpisodeTable, Recording, damaged
from ...video import Videos
from ..lazy import LazyRecording, Source
from ..shaping import refuse_unknown
from ..unbounded import OPTIONS, check_options, recorded
from .episodes import Episode, read_episodes, read_tasks
from .frames import Pictures, VideoFrames
from .info import Feature, Info, info_file, read_info
from .rows import KEEPING, Rows, read_rows
from .stats import action_range

ENDS = ("unknown", "success", "done")
TAILS = (None, "stand-in", "drop")


@dataclass(frozen=True)
class Options:
    """What a reader of a LeRobotDataset may be told; those of actions (``..unbounded``) come on top.

    ``cameras`` names those to read (default: all); ``ends`` says when ``next.done`` is an end in truth: where
    ``next.success`` is true as well, always, or, as nothing in the file tells it from a time limit, never;
    ``tail`` what becomes of the last reward and end, whose observation is not in the file.
    """

    cameras: Sequence[str] | None = None
    ends: Literal["unknown", "success", "done"] = "unknown"
    tail: Literal["stand-in", "drop"] | None = None

    def __post_init__(self) -> None:
        for name, known in (("ends", ENDS), ("tail", TAILS)):
            value = getattr(self, name)
            if value not in known:
                texts = [repr(one) for one in known if one]
                raise ConfigurationError(f"{name} is {value!r}, expected {' or '.join(texts)}")
        if isinstance(self.cameras, str):
            raise ConfigurationError(f"cameras is {self.cameras!r}, expected a list: cameras=[{self.cameras!r}]")


class LeRobot:
    """LeRobotDatasets as recordings."""

    name = "lerobot"

    def detect(self, path: Path) -> bool:
        """Tell whether ``path`` is a folder whose ``meta/info.json`` speaks of a codebase version."""
        try:
            with info_file(path).open("rb") as file:
                return b'"codebase_version"' in file.read(1 << 16)
        except OSError:
            return False

    def open(self, path: Path, **options: Any) -> Recording:
        """Return the episodes of a dataset's folder. Options: see ``Options``, and ``..unbounded`` for actions.

        Numbers are read and checked at once, frames of the cameras when rows of them are asked for.

        Raises DatasetError naming file, episode and row, ConfigurationError for an option that does not fit.
        """
        own = [one.name for one in fields(Options)]
        refuse_unknown(self.name, options, [*own, *OPTIONS])
        how = Options(**{name: options[name] for name in own if name in options})
        check_options(options)
        info = read_info(path)
        cameras = _cameras(info, how.cameras)
        episodes, files = read_episodes(info, [one.key for one in cameras if one.dtype == "video"])
        tasks, task_file = read_tasks(info)
        wanted = [one for one in info.features.values() if one.is_numbers and one.key not in KEEPING]
        rows = read_rows(info, episodes, wanted)
        _check_tasks(episodes, rows, tasks)
        sources, remarks = _sources(info, cameras, episodes, rows)
        made = _Made(info, episodes, rows.columns, how)
        remarks += made.remarks
        columns, obs_spec, info_spec = made.columns()
        about: dict[str, Any] = {}
        action_spec = ActionSpec("none")
        if "action" in rows.columns:
            raw = rows.columns["action"].reshape(info.frames, -1)
            columns["action"], action_spec, said, about = recorded(
                made.rows(raw), made.taken, options, span=lambda: action_range(info, raw.shape[1])
            )
            remarks += tuple(said)
        videos = {file for one in episodes for file, _ in one.videos.values()}
        return LazyRecording(
            format=self.name,
            place=path,
            obs_spec=obs_spec | {one.name: _picture_spec(one) for one in cameras},
            action_spec=action_spec,
            episodes=made.table,
            columns=columns,
            info_spec=info_spec,
            remarks=remarks,
            provenance={"version": info.version, "robot": info.robot, "fps": info.fps, "tasks": tasks, **about},
            files=(info.file, task_file, *files, *sorted({one.data for one in episodes} | videos)),
            sources={f"obs/{one.name}": source for one, source in zip(cameras, sources, strict=True)},
        )


class _Made:
    """Frames as rows in the arrival convention: who gets a stand-in row, and which episodes ended in truth."""

    def __init__(self, info: Info, episodes: Sequence[Episode], frames: Mapping[str, np.ndarray], how: Options) -> None:
        self.info, self.frames = info, frames
        lengths = np.array([one.length for one in episodes])
        last = np.cumsum(lengths) - 1
        none = np.zeros(len(lengths), bool)
        done = self._flag("next.done", last, none, how.ends in ("done",))
        success = self._flag("next.success", last, none, how.ends == "success")
        if how.ends == "success" and "next.done" not in frames:
            done = ~none
        terminal = {"unknown": none, "success": done & success, "done": done}[how.ends]
        pays = "next.reward" in frames or bool(terminal.any())
        stand_in = how.tail == "stand-in" or (how.tail is None and pays)
        self.last, self.stand_in = last, stand_in
        ids = [f"episode_{one.index:06d}" for one in episodes]
        self.table = EpisodeTable.of(ids, lengths + stand_in, terminal & stand_in, np.full(len(ids), stand_in))
        self.remarks = self._said(how, done, success, terminal, pays)

    @property
    def taken(self) -> np.ndarray:
        """Which rows have an action that somebody took: all but the stand-ins."""
        taken = np.ones(self.table.rows, bool)
        taken[np.cumsum(self.table.lengths) - 1] = not self.stand_in
        return taken

    def rows(self, frames: np.ndarray) -> np.ndarray:
        """Return frames as rows; a stand-in row repeats the frame before it."""
        return np.insert(frames, self.last + 1, frames[self.last], axis=0) if self.stand_in else frames

    def arrived(self, frames: np.ndarray) -> np.ndarray:
        """Return what each frame's action led to as rows: that of a row is the frame's before, 0 in the first."""
        made = np.zeros_like(self.rows(frames))
        starts = self.table.offsets
        rest = np.ones(len(made), bool)
        rest[starts] = False
        made[rest] = frames if self.stand_in else np.delete(frames, self.last, axis=0)
        return made

    def columns(self) -> tuple[dict[str, np.ndarray], dict[str, ModalitySpec], dict[str, ModalitySpec]]:
        """Return the columns but the action, and the specs of observations and of what else is kept."""
        columns: dict[str, np.ndarray] = {}
        specs: dict[str, dict[str, ModalitySpec]] = {"obs": {}, "info": {}}
        names = _names([self.info.features[key] for key in self.frames])
        for key, frames in self.frames.items():
            if key == "action":
                continue
            shift = self.arrived if key.startswith("next.") else self.rows
            if key == "next.reward":
                columns["reward"] = shift(np.asarray(frames, np.float32).reshape(len(frames), -1)[:, 0])
                continue
            if key == "task_index":
                columns["info/task"] = shift(frames.astype(np.int64))
                specs["info"]["task"] = ModalitySpec(ModalityKind.OTHER, (), "int64", name="task")
                continue
            kind, name = ("obs" if key.startswith("observation.") else "info"), names[key]
            columns[f"{kind}/{name}"] = shift(np.asarray(frames, np.float32))
            specs[kind][name] = ModalitySpec(ModalityKind.VECTOR, frames.shape[1:], "float32", name=name)
        return columns, specs["obs"], specs["info"]

    def _flag(self, key: str, last: np.ndarray, none: np.ndarray, needed: bool) -> np.ndarray:
        if key in self.frames:
            return self.frames[key].reshape(len(self.frames[key]), -1)[last, 0].astype(bool)
        if needed:
            raise ConfigurationError(f"ends= asks for {key}, which this set does not have: leave it out")
        return none

    def _said(
        self, how: Options, done: np.ndarray, success: np.ndarray, terminal: np.ndarray, pays: bool
    ) -> tuple[str, ...]:
        said = []
        if how.ends == "unknown" and done.any():
            said.append(
                f"next.done does not tell an end in truth from a time limit: none of {int(done.sum())} is taken as one "
                f"({int((done & success).sum())} with next.success; ends='success' takes those, ends='done' all)"
            )
        if self.stand_in:
            said.append("the last row of every episode repeats the observation before it, which is not in the file")
        elif pays:
            said.append("tail='drop': the last reward of every episode and every end in truth are left out")
        if "next.done" in self.frames:
            early = np.delete(self.frames["next.done"].reshape(len(self.frames["next.done"]), -1)[:, 0], self.last)
            if early.any():
                said.append(f"next.done is true in {int(early.sum())} frames that are not the last of their episode")
        return tuple(said)


def _names(features: Sequence[Feature]) -> dict[str, str]:
    """Return the short names of features, whole ones where two would be called the same."""
    short = [one.name for one in features]
    return {
        one.key: one.name if short.count(one.name) == 1 else one.key.replace(".", "_").replace("/", "_")
        for one in features
    }


def _cameras(info: Info, asked: Sequence[str] | None) -> list[Feature]:
    cameras = [one for one in info.features.values() if one.is_camera]
    if asked is None:
        return cameras
    by_name = {one.name: one for one in cameras} | {one.key: one for one in cameras}
    for name in asked:
        if name not in by_name:
            has = f"has {', '.join(one.name for one in cameras)}" if cameras else "has none"
            raise ConfigurationError(
                f"no camera is called {name!r}, {info.folder} {has}.{did_you_mean(str(name), by_name)}"
            )
    return list({by_name[name].key: by_name[name] for name in asked}.values())


def _sources(
    info: Info, cameras: Sequence[Feature], episodes: Sequence[Episode], rows: Rows
) -> tuple[list[Source], tuple[str, ...]]:
    """Return where each camera's frames come from, and what is to be said."""
    sources: list[Source] = []
    remarks: tuple[str, ...] = ()
    videos = Videos()
    for one in cameras:
        if one.dtype == "image":
            sources.append(Pictures(one, episodes, rows.places))
            continue
        frames = VideoFrames(one, episodes, info.fps, videos)
        remarks += frames.check()
        sources.append(frames)
    left = [one.key for one in info.features.values() if not (one.is_camera or one.is_numbers)]
    return sources, remarks + ((f"left out, as they are no numbers: {', '.join(left)}",) if left else ())


def _check_tasks(episodes: Sequence[Episode], rows: Rows, tasks: Mapping[int, str]) -> None:
    found = rows.columns.get("task_index")
    if found is None:
        return
    good = np.isin(found, list(tasks))
    if not good.all():
        at = int(np.argmin(good))
        one = next(one for one in episodes if at < one.first + one.length)
        raise damaged(
            one.data, f"task_index is {found[at]}, which meta/ lists no task for", episode=one.index, row=at - one.first
        )


def _picture_spec(one: Feature) -> ModalitySpec:
    return ModalitySpec(ModalityKind.IMAGE, one.frame, "uint8", "CHW", one.name)
