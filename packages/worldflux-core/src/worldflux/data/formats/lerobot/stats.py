"""The statistics that a LeRobotDataset keeps of itself, of which only the range of actions is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from worldflux.files import read_json

from ...recording import DatasetError, damaged
from ..guard import check_file
from .episodes import json_lines
from .info import Info


def action_range(info: Info, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the greatest of each of ``size`` components of the action. Raises DatasetError."""
    if info.version == "v2.1":
        file = check_file(info.folder / "meta" / "episodes_stats.jsonl")
        found = [one.get("stats") for _, one in json_lines(file)]
    else:
        file = check_file(info.folder / "meta" / "stats.json")
        found = [read_json(file, error=DatasetError, limit=1 << 28)]
    bounds: dict[str, list[np.ndarray]] = {"min": [], "max": []}
    for episode, one in enumerate(found):
        action: Any = one.get("action") if isinstance(one, Mapping) else None
        for name, values in bounds.items():
            try:
                bound = np.asarray(action[name], np.float64).reshape(size)
            except (TypeError, KeyError, ValueError):
                bound = np.array([np.nan])
            if not np.isfinite(bound).all():
                place = episode if len(found) > 1 else None
                raise damaged(file, f"has no {name} of the action's {size} components", episode=place)
            values.append(bound)
    if not found:
        raise damaged(file, "has no statistics")
    return np.min(bounds["min"], axis=0), np.max(bounds["max"], axis=0)
