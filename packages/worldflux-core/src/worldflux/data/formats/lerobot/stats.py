"""The statistics that a LeRobotDataset keeps of itself: the range of its actions, and whether its tables still fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.files import read_json
from worldflux.words.counts import counted

from ...recording import DatasetError, damaged
from ..common.guard import check_file
from .episodes import Episode, json_lines
from .info import Info


class Statistics:
    """Least, greatest and mean of each feature, over all frames.

    Raises DatasetError for a file that is damaged; one that is not there has no statistics.
    """

    def __init__(self, info: Info, episodes: Sequence[Episode]) -> None:
        by_episode = info.version == "v2.1"
        self.file = info.folder / "meta" / ("episodes_stats.jsonl" if by_episode else "stats.json")
        self._parts: list[Any] = _parts(self.file, info.folder, by_episode)
        self._lengths = [one.length for one in episodes] if by_episode else [info.frames]

    def of(self, key: str, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Return the least, the greatest and the mean ``[size]`` of a feature; None where they are not all there."""
        if len(self._parts) != len(self._lengths):
            return None
        try:
            found = [
                [np.asarray(part[key][name], np.float64).reshape(size) for name in ("min", "max", "mean")]
                for part in self._parts
            ]
        except (TypeError, KeyError, ValueError):
            return None
        least, most, mean = (np.stack(one) for one in zip(*found, strict=True))
        whole = least.min(0), most.max(0), np.average(mean, axis=0, weights=self._lengths)
        return whole if np.isfinite(whole).all() else None

    def action_range(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and the greatest of each component of the action. Raises DatasetError without them."""
        found = self.of("action", size)
        if found is None:
            raise damaged(
                self.file, f"does not hold min, max and mean of the action's {counted(size, 'component')}",
                way_out="give action_low= and action_high= instead of action_scale=",
            )  # fmt: skip
        return found[0], found[1]

    def remarks(self, columns: Mapping[str, np.ndarray]) -> tuple[str, ...]:
        """Say which columns ``[frames, ...]`` do not have these statistics: Parquet has no checksum of its own."""
        said = []
        for key, values in columns.items():
            flat = values.reshape(len(values), -1).astype(np.float64)
            found = self.of(key, flat.shape[1]) if values.dtype.kind == "f" else None
            if found is None:
                continue
            near = 1e-5 * (np.abs(flat).max(0) + 1e-6)
            now = flat.min(0), flat.max(0), flat.mean(0)
            if any((np.abs(one - other) > near).any() for one, other in zip(now, found, strict=True)):
                said.append(
                    f"{key} has another least, greatest or mean than meta/{self.file.name} says: the table is damaged, "
                    "or the statistics are out of date"
                )
        return tuple(said)


def _parts(file: Path, folder: Path, by_episode: bool) -> list[Any]:
    if not file.exists():
        return []
    check_file(file, within=folder)
    if by_episode:
        return [one.get("stats") for _, one in json_lines(file)]
    return [read_json(file, error=DatasetError, limit=1 << 28, follow=True)]
