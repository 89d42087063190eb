"""``meta/info.json`` of a LeRobotDataset: its version, its features, and where its files are."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldflux.files import read_json

from ...recording import DatasetError, damaged
from ..common.guard import check_file, inside

VERSIONS = {"v2.0": 2, "v2.1": 2, "v3.0": 3}
_NUMBERS = {"bool", *(f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64))}
_PLAIN = ("action", "next.reward", "next.done", "next.success", "observation.state", "task_index")  # numbers, always
_FIELD = re.compile(r"\{(\w+)(?::0?(\d{0,2})d)?\}", re.ASCII)


@dataclass(frozen=True)
class Feature:
    """A column: its dtype by name, the shape of a row, and for pictures where their channels are.

    ``name`` is what it is called here.
    """

    key: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    channels_first: bool
    depth: bool

    @property
    def is_camera(self) -> bool:
        """Whether its rows are pictures in colour or grey."""
        return self.dtype in ("video", "image") and not self.depth

    @property
    def is_numbers(self) -> bool:
        """Whether its rows are numbers of a fixed shape."""
        return self.dtype in _NUMBERS

    @property
    def frame(self) -> tuple[int, int, int]:
        """The ``(C, H, W)`` of a camera's pictures."""
        first, second, third = self.shape
        return (first, second, third) if self.channels_first else (third, first, second)


@dataclass(frozen=True)
class Info:
    """What the file says. ``major`` is 2 (one file an episode) or 3 (many episodes a file)."""

    folder: Path
    version: str
    fps: float
    features: Mapping[str, Feature]
    data_path: str
    video_path: str | None
    chunks_size: int
    episodes: int
    frames: int
    robot: str | None
    found: dict[str, Path] = field(default_factory=dict, compare=False, repr=False)

    @property
    def file(self) -> Path:
        """The file itself."""
        return info_file(self.folder)

    @property
    def major(self) -> int:
        """The layout: 2 or 3."""
        return VERSIONS[self.version]

    def path(self, template: str, *, episode: int, **values: int | str) -> Path:
        """Return the file that a template names. Raises DatasetError for one that is outside, or not there."""

        def value(match: re.Match[str]) -> str:
            if match[1] not in values:
                raise damaged(self.file, f"the template {template!r} asks for {match[1]!r}, known are {list(values)}")
            return str(values[match[1]]).zfill(int(match[2] or 0))

        name = _FIELD.sub(value, template)
        if "{" in name or "}" in name:
            raise damaged(self.file, f"the template {template!r} is not one of names and widths, such as {{index:03d}}")
        if name not in self.found:  # many episodes share a file
            self.found[name] = inside(self.folder, name, said_by=self.file, episode=episode)
        return self.found[name]


def info_file(folder: Path) -> Path:
    """Return where the file is in a dataset's folder."""
    return folder / "meta" / "info.json"


def read_info(folder: Path) -> Info:
    """Return what ``meta/info.json`` says. Raises DatasetError naming it and what is wrong."""
    file = check_file(info_file(folder), within=folder)
    data = read_json(file, error=DatasetError, follow=True)
    version = data.get("codebase_version")
    if not isinstance(version, str) or version not in VERSIONS:
        raise damaged(
            file, f"codebase_version is {version!r}, known are {', '.join(VERSIONS)}",
            way_out="update worldflux-core, or convert the set with the lerobot that wrote it",
        )  # fmt: skip
    three = VERSIONS[version] == 3
    fps = data.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0 < fps < 1e6:
        raise damaged(file, f"fps is {fps!r}, expected frames a second")
    features = data.get("features")
    if not isinstance(features, dict):
        raise damaged(file, "features are missing")
    robot = data.get("robot_type")
    return Info(
        folder=folder,
        version=version,
        fps=float(fps),
        features={key: _feature(file, key, name, features[key]) for key, name in _names(features).items()},
        data_path=_text(file, data, "data_path"),
        video_path=None if data.get("video_path") is None else _text(file, data, "video_path"),
        chunks_size=1 if three else _count(file, data, "chunks_size", 1),
        episodes=_count(file, data, "total_episodes", 1),
        frames=_count(file, data, "total_frames", 1),
        robot=robot if isinstance(robot, str) else None,
    )


def _names(keys: Iterable[str]) -> dict[str, str]:
    """Return the names without ``observation.``, ``images.`` and ``next.``; whole ones where two would be the same."""
    short = {}
    for key in keys:
        rest = "task" if key == "task_index" else key
        for start in ("observation.", "images.", "next."):
            rest = rest.removeprefix(start)
        short[key] = rest
    taken = list(short.values())
    names = {key: name if taken.count(name) == 1 else key for key, name in short.items()}
    return {key: name.replace(".", "_").replace("/", "_") for key, name in names.items()}


def _feature(file: Path, key: str, name: str, data: Any) -> Feature:
    data = data if isinstance(data, dict) else {}
    dtype, shape = data.get("dtype"), data.get("shape")
    whole = isinstance(shape, list) and all(type(size) is int and 0 < size < 1 << 24 for size in shape)
    if not isinstance(dtype, str) or not whole or math.prod(shape or ()) > 1 << 28:
        raise damaged(file, f"the feature {key!r} is {dtype!r} of shape {shape!r}, expected a dtype and sizes")
    known = _NUMBERS if key in _PLAIN else {*_NUMBERS, "video", "image", "string"}
    if dtype not in known and (key in _PLAIN or key.startswith("observation.")):
        raise damaged(file, f"the feature {key!r} is {dtype!r}, known are {', '.join(sorted(known))}")
    about = [one for one in (data.get("info"), data.get("video_info"), data) if isinstance(one, dict)]
    depth = any(one.get(name) is True for one in about for name in ("is_depth_map", "video.is_depth_map"))
    names = data.get("names")
    first = isinstance(names, list) and bool(names) and names[0] in ("channel", "channels", "c", "C")
    return Feature(key, name, dtype, tuple(shape), first, depth)


def _text(file: Path, data: Mapping[str, Any], key: str) -> str:
    if not isinstance(data.get(key), str):
        raise damaged(file, f"{key} is {data.get(key)!r}, expected the names of files")
    return str(data[key])


def _count(file: Path, data: Mapping[str, Any], key: str, least: int) -> int:
    value = data.get(key)
    if type(value) is not int or not least <= value < 1 << 48:
        raise damaged(file, f"{key} is {value!r}, expected a whole number from {least} on")
    return value
