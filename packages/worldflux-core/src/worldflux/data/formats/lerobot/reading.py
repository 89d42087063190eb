"""The format ``lerobot``: LeRobotDataset v3.0 and v2.1, tables in Parquet and cameras in Parquet or video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from worldflux.core.errors import ConfigurationError, did_you_mean
from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec

from ...recording import Recording, damaged
from ...video import Videos
from ..common.actions import OPTIONS, Acted, ActionOptions, told_by_data
from ..common.arrivals import check_layout
from ..common.guard import refuse_unknown
from ..common.lazy import LazyRecording, Source
from .arrivals import ENDS, FrameRows
from .episodes import Episode, read_episodes, read_tasks
from .frames import Pictures, VideoFrames
from .info import Feature, Info, info_file, read_info
from .rows import KEEPING, Rows, read_rows
from .stats import Statistics


@dataclass(frozen=True)
class Options:
    """What a reader of a LeRobotDataset may be told; those of actions come on top.

    ``cameras`` names those to read (default: all); ``ends`` says when ``next.done`` is an end in truth: where
    ``next.success`` is true as well, always, or, as nothing in the file tells it from a time limit, never;
    ``tail`` what becomes of the last reward and end, whose observation is not in the file.
    """

    cameras: Sequence[str] | None = None
    ends: Literal["unknown", "success", "done"] = "unknown"
    tail: Literal["stand_in", "drop"] | None = None

    def __post_init__(self) -> None:
        if self.ends not in ENDS:
            raise ConfigurationError(f"ends is {self.ends!r}, expected {' or '.join(map(repr, ENDS))}")
        check_layout(None, self.tail)
        if isinstance(self.cameras, str):
            raise ConfigurationError(f"cameras is {self.cameras!r}, expected a list: cameras=[{self.cameras!r}]")


class LeRobot:
    """LeRobotDatasets as recordings."""

    name = "lerobot"

    def detect(self, path: Path) -> bool:
        """Tell whether ``path`` is a folder whose ``meta/info.json`` speaks of a codebase version."""
        try:
            with info_file(path).open("rb") as file:
                return b'"codebase_version"' in file.read(1 << 20)
        except OSError:
            return False

    def open(self, path: Path, **options: Any) -> Recording:
        """Return the episodes of a dataset's folder. Options: see ``Options``, and those of actions.

        Numbers are read and checked at once, frames of the cameras when rows of them are asked for.

        Raises DatasetError naming file, episode and row, ConfigurationError for an option that does not fit.
        """
        own = [one.name for one in fields(Options)]
        refuse_unknown(self.name, options, [*own, *OPTIONS])
        how = Options(**{name: options[name] for name in own if name in options})
        usable = ActionOptions.of(options)
        info = read_info(path)
        cameras = _cameras(info, how.cameras)
        episodes, files = read_episodes(info, [one.key for one in cameras if one.dtype == "video"])
        tasks, task_file = read_tasks(info)
        wanted = [one for one in info.features.values() if one.is_numbers and one.key not in KEEPING]
        rows = read_rows(info, episodes, wanted)
        _check_tasks(episodes, rows, tasks)
        sources, remarks = _sources(info, cameras, episodes, rows)
        made = FrameRows(info, episodes, rows.columns, ends=how.ends, tail=how.tail)
        statistics = Statistics(info, episodes)
        remarks += made.remarks + statistics.remarks(rows.columns)
        columns, obs_spec, info_spec = made.columns()
        acted = Acted(np.zeros((made.table.rows, 0), np.float32), ActionSpec("none"))
        if "action" in rows.columns:
            raw = rows.columns["action"].reshape(info.frames, -1)
            span = partial(statistics.action_range, raw.shape[1])
            acted = told_by_data(made.rows(raw), made.taken, usable, place=info.file, span=span)
            columns["action"] = acted.rows
        videos = {file for one in episodes for file, _ in one.videos.values()}
        return LazyRecording(
            format=self.name,
            place=path,
            obs_spec=obs_spec | {one.name: _picture_spec(one) for one in cameras},
            action_spec=acted.spec,
            episodes=made.table,
            columns=columns,
            info_spec=info_spec,
            remarks=(*remarks, *acted.remarks),
            provenance={"version": info.version, "robot": info.robot, "fps": info.fps, "tasks": tasks},
            action_bounds=acted.bounds,
            files=(info.file, task_file, *files, *sorted({one.data for one in episodes} | videos)),
            sources={f"obs/{one.name}": source for one, source in zip(cameras, sources, strict=True)},
        )


def _cameras(info: Info, asked: Sequence[str] | None) -> list[Feature]:
    """Return the cameras to read. Raises ConfigurationError for an unknown one, DatasetError for pictures of no use."""
    known = [one for one in info.features.values() if one.is_camera]
    by_name = {one.name: one for one in known} | {one.key: one for one in known}
    for name in asked or ():
        if name not in by_name:
            has = f"has {', '.join(one.name for one in known)}" if known else "has none"
            raise ConfigurationError(
                f"no camera is called {name!r}, {info.folder} {has}.{did_you_mean(str(name), by_name)}"
            )
    cameras = known if asked is None else list({by_name[name].key: by_name[name] for name in asked}.values())
    for one in cameras:
        if len(one.shape) != 3 or one.frame[0] not in (1, 3):
            raise damaged(
                info.file, f"the camera {one.key!r} has pictures of shape {list(one.shape)}, expected height, width "
                "and 1 or 3 channels", way_out="leave it out: cameras= names those to read",
            )  # fmt: skip
    return cameras


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
