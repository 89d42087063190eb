"""A LeRobotDataset v3.0 as the format describes it, of any features and cut into files at any place."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def write_lerobot(
    folder: Path,
    lengths: Sequence[int],
    numbers: Mapping[str, np.ndarray],
    *,
    fps: float = 10,
    files: Sequence[int] | None = None,
    cameras: Mapping[str, tuple[int, int, int]] | None = None,
    tasks: Sequence[str] = ("do it",),
) -> Path:
    """Write episodes of these lengths, whose ``numbers`` ``[frames, ...]`` stand one after another.

    ``files[i]`` is the data file of episode i, ``cameras`` the ``(H, W, C)`` of videos that the caller writes, one
    file each, all episodes in it.
    """
    count, frames = len(lengths), sum(lengths)
    files = list(files or [0] * count)
    starts = np.cumsum(lengths) - lengths
    cameras = cameras or {}
    own = {
        "timestamp": np.concatenate([np.arange(n) / fps for n in lengths]).astype(np.float32),
        "frame_index": np.concatenate([np.arange(n) for n in lengths]),
        "episode_index": np.repeat(np.arange(count), lengths),
        "index": np.arange(frames),
        "task_index": np.zeros(frames, np.int64),
    }
    columns = {**own, **numbers}  # numbers may replace a column that keeps the books
    features: dict[str, Any] = {key: _feature(values) for key, values in columns.items()}
    features |= {key: {"dtype": "video", "shape": list(shape), "names": None} for key, shape in cameras.items()}
    for file in sorted(set(files)):
        rows = np.concatenate([np.arange(starts[i], starts[i] + lengths[i]) for i in range(count) if files[i] == file])
        _write(folder / f"data/chunk-000/file-{file:03d}.parquet", {key: v[rows] for key, v in columns.items()})
    table: dict[str, Any] = {
        "episode_index": np.arange(count), "length": np.array(lengths), "dataset_from_index": starts,
        "dataset_to_index": starts + lengths, "data/chunk_index": np.zeros(count, np.int64),
        "data/file_index": np.array(files),
    }  # fmt: skip
    for key in cameras:
        table |= {f"videos/{key}/{name}_index": np.zeros(count, np.int64) for name in ("chunk", "file")}
        table |= {f"videos/{key}/from_timestamp": starts / fps, f"videos/{key}/to_timestamp": (starts + lengths) / fps}
    _write(folder / "meta/episodes/chunk-000/file-000.parquet", table)
    pq.write_table(pa.table({"task_index": range(len(tasks)), "task": list(tasks)}), folder / "meta/tasks.parquet")
    info = {
        "codebase_version": "v3.0", "fps": fps, "features": features, "total_episodes": count, "total_frames": frames,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet", "robot_type": None,
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }  # fmt: skip
    (folder / "meta/info.json").write_text(json.dumps(info))
    return folder


def change_json(file: Path, **values: Any) -> None:
    """Give some fields of a JSON file other values."""
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def change_table(file: Path, **columns: Any) -> None:
    """Give some columns of a Parquet file other values (a list, or a function of the old ones)."""
    table = pq.read_table(file)
    for name, values in columns.items():
        name = next(one for one in table.schema.names if one.replace("/", "_").replace(".", "_") == name)
        at, old = table.schema.get_field_index(name), table.column(name)
        values = values(old.to_pylist()) if callable(values) else values
        table = table.set_column(at, name, pa.array(values, old.type))
    pq.write_table(table, file)


def _feature(values: np.ndarray) -> dict[str, Any]:
    return {"dtype": str(values.dtype), "shape": list(values.shape[1:]) or [1], "names": None}


def _write(file: Path, columns: Mapping[str, np.ndarray]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({key: pa.array(values.tolist()) for key, values in columns.items()}), file)
