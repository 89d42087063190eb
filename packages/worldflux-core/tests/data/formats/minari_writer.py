"""Writes Minari's HDF5 layout for any Gymnasium space, without Minari: what the tests of its reader read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np


def space_json(space: Any) -> dict[str, Any]:
    """A space as Minari writes it."""
    kind = type(space).__name__
    if kind == "Dict":
        return {"type": kind, "subspaces": {key: space_json(one) for key, one in space.spaces.items()}}
    if kind == "Tuple":
        return {"type": kind, "subspaces": [space_json(one) for one in space.spaces]}
    if kind == "Discrete":
        return {"type": kind, "dtype": "int64", "start": int(space.start), "n": int(space.n)}
    if kind == "MultiDiscrete":
        return {"type": kind, "dtype": str(space.dtype), "nvec": space.nvec.tolist(), "start": space.start.tolist()}
    if kind == "MultiBinary":
        return {"type": kind, "n": space.n if isinstance(space.n, int) else list(space.n)}
    if kind == "Text":
        return {"type": kind, "max_length": space.max_length, "min_length": space.min_length, "charset": "abc"}
    return {
        "type": "Box", "dtype": str(space.dtype), "shape": list(space.shape),
        "low": space.low.tolist(), "high": space.high.tolist(),
    }  # fmt: skip


def write(
    root: Path,
    observation_space: Any,
    action_space: Any,
    episodes: Sequence[tuple[list[Any], list[Any]]],
    *,
    infos: Sequence[dict[str, np.ndarray]] = (),
    **said: Any,
) -> Path:
    """Write episodes of ``(observations, actions)``; the reward of step t is t + 1, all end in truth."""
    data = root / "data"
    data.mkdir(parents=True)
    with h5py.File(data / "main_data.hdf5", "w") as file:
        for i, (observations, actions) in enumerate(episodes):
            group = file.create_group(f"episode_{i}")
            steps = len(actions)
            _put(group, "observations", observation_space, observations)
            _put(group, "actions", action_space, actions)
            group["rewards"] = np.arange(1.0, steps + 1)
            group["terminations"] = np.arange(steps) == steps - 1
            group["truncations"] = np.zeros(steps, bool)
            for name, values in infos[i].items() if infos else ():
                group[f"infos/{name}"] = values
    meta = {
        "total_episodes": len(episodes), "total_steps": sum(len(actions) for _, actions in episodes),
        "data_format": "hdf5", "jpeg_encoding": False, "minari_version": "0.5.4",
        "observation_space": json.dumps(space_json(observation_space)),
        "action_space": json.dumps(space_json(action_space)),
    } | said  # fmt: skip
    (data / "metadata.json").write_text(json.dumps(meta))
    return root


def _put(group: Any, name: str, space: Any, values: list[Any]) -> None:
    kind = type(space).__name__
    if kind == "Dict":
        for key, child in space.spaces.items():
            _put(group, f"{name}/{key}", child, [value[key] for value in values])
    elif kind == "Tuple":
        for i, child in enumerate(space.spaces):
            _put(group, f"{name}/_index_{i}", child, [value[i] for value in values])
    elif kind == "Text":
        group[name] = [value.encode() for value in values]
    else:
        group[name] = np.array(values)
