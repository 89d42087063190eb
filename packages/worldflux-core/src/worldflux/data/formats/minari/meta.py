"""What Minari's ``metadata.json`` says, and an episode as any of its containers gives it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.files import parse_json, read_json

from ...recording import DatasetError, damaged
from ..common.guard import check_file
from .spaces import Leaf, leaves_of, named

NEWEST = (0, 5)
_LIMIT = 1 << 28  # bytes of metadata.json, which spells out the bounds of every pixel


@dataclass
class Meta:
    """What ``metadata.json`` says."""

    file: Path
    root: Path  # nothing outside of it is read
    total_episodes: int
    total_steps: int
    container: str
    observation: list[Leaf]
    action: list[Leaf]
    dropped: list[str]
    rest: dict[str, Any] = field(default_factory=dict)


@dataclass
class Episode:
    """One episode as it is stored: T transitions, T + 1 observations and infos; ``facts`` is what is said of it."""

    file: Path
    observations: dict[str, np.ndarray]  # by leaf name; pictures are read later and absent
    actions: dict[str, np.ndarray]
    rewards: np.ndarray
    terminations: np.ndarray
    truncations: np.ndarray
    infos: dict[str, np.ndarray]
    facts: Mapping[str, Any]


def data_of(path: Path) -> Path:
    """Return the folder of the data: ``path``, or ``data`` in it."""
    return path / "data" if (path / "data" / "metadata.json").is_file() else path


def read_meta(path: Path) -> Meta:
    """Return what is said of the set. Raises DatasetError for what is none, or of a newer version."""
    file = check_file(data_of(path) / "metadata.json", within=path)
    said = read_json(file, error=DatasetError, limit=_LIMIT, follow=True)
    _check_version(file, said.get("minari_version"))
    container = said.get("data_format", "hdf5")
    if container not in ("hdf5", "arrow", "parquet"):
        raise damaged(file, f"data_format is {container!r}, known are hdf5, arrow and parquet")
    episodes, steps = (_count(file, said, name) for name in ("total_episodes", "total_steps"))
    spaces: dict[str, list[Leaf]] = {}
    dropped: list[str] = []
    for name in ("observation_space", "action_space"):
        if not isinstance(said.get(name), str):
            raise damaged(
                file, f"it has no {name}", way_out="sets of Minari before 0.4.3 are updated by loading them with Minari"
            )
        try:
            spaces[name], less = leaves_of(parse_json(said[name].encode()))
        except (ValueError, RecursionError) as error:
            raise damaged(file, f"the {name} cannot be read: {error}") from error
        if not named(spaces[name], "obs"):
            raise damaged(file, f"the {name} holds no numbers")
        if less and name == "action_space":
            raise damaged(file, f"actions of the space {less[0]} have no place in a row of numbers")
        dropped += less
    return Meta(
        file, path, episodes, steps, container, spaces["observation_space"], spaces["action_space"], dropped, said
    )  # fmt: skip


def _count(file: Path, said: Mapping[str, Any], name: str) -> int:
    value = said.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise damaged(file, f"{name} is {value!r}, expected a whole number of at least 1")
    return value


def _check_version(file: Path, version: Any) -> None:
    match = re.match(r"(\d{1,6})\.(\d{1,6})", str(version)) if version is not None else None
    if match and (int(match[1]), int(match[2])) > NEWEST:
        newest = ".".join(map(str, NEWEST))
        raise damaged(
            file,
            f"it was written by Minari {version}, this reader knows up to {newest}",
            way_out="update worldflux-core",
        )
