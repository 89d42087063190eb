"""Which episodes a LeRobotDataset has, in which files, and what their tasks are called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.files import parse_json, read_bytes
from worldflux.words.counts import counted

from ...recording import damaged
from ..common.guard import check_file, faults
from ..common.tables import dense, open_parquet, read_columns
from .info import Info

MAX_LINES = 1 << 28  # bytes of a table of episodes


@dataclass(frozen=True)
class Episode:
    """One episode: its frames, the file of its rows, and for each camera its video and when it begins there."""

    index: int
    length: int
    first: int
    data: Path
    videos: Mapping[str, tuple[Path, float]] = field(default_factory=dict)


def read_episodes(info: Info, cameras: Sequence[str]) -> tuple[list[Episode], tuple[Path, ...]]:
    """Return the episodes in order, with the videos of ``cameras`` only, and the files that say so.

    Raises DatasetError naming the file and the episode.
    """
    episodes, files = (_read_three if info.major == 3 else _read_two)(info, cameras)
    place = files[0]
    for k, one in enumerate(episodes):
        if one.index != k:
            raise damaged(place, f"lists episode {one.index} here, expected one after another", episode=k)
    frames = sum(one.length for one in episodes)
    if (len(episodes), frames) != (info.episodes, info.frames):
        raise damaged(
            info.file,
            f"says there are {counted(info.episodes, 'episode')} of {counted(info.frames, 'frame')}, {place} lists "
            f"{len(episodes)} of {frames}", way_out="take the set from where it came from, whole",
        )  # fmt: skip
    return episodes, files


def read_tasks(info: Info) -> tuple[dict[int, str], Path]:
    """Return the text of each task by its number, and the file that says so. Raises DatasetError."""
    if info.major == 2:
        file = check_file(info.folder / "meta" / "tasks.jsonl", within=info.folder)
        pairs: list[tuple[Any, Any]] = [(one.get("task_index"), one.get("task")) for _, one in json_lines(file)]
    else:
        file = check_file(info.folder / "meta" / "tasks.parquet", within=info.folder)
        opened = open_parquet(file)
        texts = [name for name in opened.schema_arrow.names if name != "task_index"]
        if not texts:
            raise damaged(file, "has no column with the texts of the tasks")
        columns = read_columns(opened, file, ["task_index", texts[0]])
        pairs = list(zip(*(column.to_pylist() for column in columns.values()), strict=True))
    for number, text in pairs:
        if type(number) is not int or not isinstance(text, str):
            raise damaged(file, f"lists the task {number!r}: {text!r}, expected a number and a text")
    if len(dict(pairs)) < len(pairs):
        raise damaged(file, "lists two tasks of one number")
    return dict(pairs), file


def _read_two(info: Info, cameras: Sequence[str]) -> tuple[list[Episode], tuple[Path, ...]]:
    file = check_file(info.folder / "meta" / "episodes.jsonl", within=info.folder)
    episodes, first = [], 0
    for number, one in json_lines(file):
        index, length = one.get("episode_index"), one.get("length")
        if type(index) is not int or type(length) is not int or not (index >= 0 and 0 < length < 1 << 40):
            raise damaged(file, f"line {number} is episode {index!r} of length {length!r}, expected whole numbers")
        values = {"episode_chunk": index // info.chunks_size, "episode_index": index}
        videos = {
            key: (info.path(_video_path(info), episode=index, video_key=key, **values), 0.0) for key in cameras
        }  # fmt: skip
        data = info.path(info.data_path, episode=index, **values)
        episodes.append(Episode(index, length, first, data, videos))
        first += length
    return episodes, (file,)


def _read_three(info: Info, cameras: Sequence[str]) -> tuple[list[Episode], tuple[Path, ...]]:
    folder = info.folder / "meta" / "episodes"
    files = tuple(check_file(file, within=info.folder) for file in sorted(folder.glob("*/*.parquet")))
    if not files:
        raise damaged(folder, "holds no table of episodes", way_out="take the set from where it came from, whole")
    names = ["episode_index", "length", "dataset_from_index", "dataset_to_index", "data/chunk_index", "data/file_index"]
    of_video = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    names += [f"videos/{key}/{what}" for key in cameras for what in of_video]
    episodes: list[Episode] = []
    for file in files:
        opened = open_parquet(file)
        for name in opened.schema_arrow.names:
            if name.startswith("videos/") and name.split("/")[1] not in info.features:
                raise damaged(file, f"has the column {name!r}, meta/info.json has no such feature")
        columns = read_columns(opened, file, names)  # the others, of statistics, are most of the file
        table = {name: _numbers(file, name, column, len(episodes)) for name, column in columns.items()}
        for row in range(len(table["length"])):
            episodes.append(_episode(info, file, {name: values[row] for name, values in table.items()}, cameras))
    _check_spans(info, files[0], episodes)
    return episodes, files


def _episode(info: Info, file: Path, row: Mapping[str, Any], cameras: Sequence[str]) -> Episode:
    index, length = int(row["episode_index"]), int(row["length"])
    first, stop = int(row["dataset_from_index"]), int(row["dataset_to_index"])
    if length < 1 or stop - first != length:
        raise damaged(file, f"says it has {counted(length, 'frame')}, from {first} to {stop}", episode=index)
    values = {"chunk_index": int(row["data/chunk_index"]), "file_index": int(row["data/file_index"])}
    data = info.path(info.data_path, episode=index, **values)
    videos = {}
    for key in cameras:
        values = {name: int(row[f"videos/{key}/{name}"]) for name in ("chunk_index", "file_index")}
        begin, end = (float(row[f"videos/{key}/{name}_timestamp"]) for name in ("from", "to"))
        if not (np.isfinite([begin, end]).all() and begin >= 0 and end - begin > (length - 0.5) / info.fps):
            raise damaged(
                file, f"{key} is shown from {begin:.6g} s to {end:.6g} s, "
                f"{counted(length, 'frame takes', 'frames take')} {length / info.fps:.6g}", episode=index,
            )  # fmt: skip
        videos[key] = (info.path(_video_path(info), episode=index, video_key=key, **values), begin)
    return Episode(index, length, first, data, videos)


def _check_spans(info: Info, file: Path, episodes: Sequence[Episode]) -> None:
    """Raise DatasetError for episodes that share rows, or frames of a video."""
    ends: dict[Path, float] = {}
    first = 0
    for one in episodes:
        if one.first != first:
            raise damaged(file, f"begins at row {one.first}, the one before ends at {first}", episode=one.index)
        first += one.length
        for video, begin in one.videos.values():
            if begin < ends.get(video, 0.0) - 0.25 / info.fps:
                raise damaged(
                    file, f"begins in {video.name} at {begin:.6g} s, the one before ends at {ends[video]:.6g} s",
                    episode=one.index,
                )  # fmt: skip
            ends[video] = begin + one.length / info.fps


def _video_path(info: Info) -> str:
    if info.video_path is None:
        raise damaged(info.file, "video_path is null, yet there are cameras with videos")
    return info.video_path


def _numbers(file: Path, name: str, column: Any, before: int) -> np.ndarray:
    values = dense(column, (), lambda row, what: damaged(file, f"{name} {what}", episode=before + row))
    whole = np.int64 if not name.endswith("_timestamp") else np.float64
    if whole is np.int64 and values.dtype.kind not in "iu":
        raise damaged(file, f"{name} is of type {values.dtype}, expected whole numbers")
    return values.astype(whole)


def json_lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give each line of a file of JSON objects, with its number."""
    with faults(file, "it"):
        lines = read_bytes(file, limit=MAX_LINES, follow=True).splitlines()
    for number, line in enumerate(lines, 1):
        if line.strip():
            with faults(file, f"line {number}"):
                one = parse_json(line)
            yield number, one
