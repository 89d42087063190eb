"""What is in a dataset, and what a model would see of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from worldflux.core.spec import ModalitySpec

from .dataset import Dataset

LOOKED_AT = 200  # episodes whose rows are read for the numbers


def describe(dataset: Dataset, *, most: int = LOOKED_AT) -> dict[str, Any]:
    """Return what a dataset holds, JSON-able.

    Counts are of all episodes; bounds and returns of ``most`` of them, evenly chosen (``looked_at`` says how many).
    Images are not read. Raises DatasetError for damaged data.
    """
    table, recording = dataset.episodes, dataset.recording
    which = np.unique(np.linspace(0, len(table) - 1, min(most, len(table))).round().astype(int))
    vectors = [name for name, spec in dataset.obs_spec.items() if len(spec.shape) < 2]
    wanted = [*(f"obs/{name}" for name in vectors), "action", "reward"]
    seen: dict[str, list[np.ndarray]] = {name: [] for name in wanted if name in recording.names}
    for index in which.tolist():
        for name, parts in seen.items():
            parts.append(dataset.column(name, index))
    out: dict[str, Any] = {
        "place": str(recording.place),
        "format": recording.format,
        "episodes": len(table),
        "rows": table.rows,
        "lengths": _numbers(table.lengths),
        "ended_in_truth": int(table.terminal.sum()),
        "stand_ins": int(table.stand_in.sum()),
        "looked_at": len(which),
        "modalities": {
            name: _modality(spec, seen.get(f"obs/{name}"), recording.frame_stack.get(name, 1))
            for name, spec in dataset.obs_spec.items()
        },
        "actions": _actions(dataset, seen.get("action")),
        "rewards": dataset.has_rewards,
        "info": {name: {"shape": list(spec.shape), "dtype": spec.dtype} for name, spec in dataset.info_spec.items()},
    }
    if "reward" in seen:
        out["returns"] = _numbers(np.array([rewards.sum(dtype=np.float64) for rewards in seen["reward"]]))
    return out | {
        "model_sees": _sees(dataset),
        "remarks": list(dataset.remarks),
        "provenance": dict(recording.provenance),
        "fingerprint": dataset.fingerprint,
    }


def _numbers(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    return {name: float(getattr(values, name)()) for name in ("mean", "std", "min", "max")}


def _modality(spec: ModalitySpec, seen: list[np.ndarray] | None, stack: int) -> dict[str, Any]:
    out: dict[str, Any] = {"kind": spec.kind.value, "shape": list(spec.shape), "dtype": spec.dtype}
    if stack > 1:
        out["frame_stack"] = stack
    return out | _bounds(seen)


def _actions(dataset: Dataset, seen: list[np.ndarray] | None) -> dict[str, Any]:
    spec = dataset.action_spec
    parts = [{"name": part.name, "kind": part.kind, "dim": part.dim} for part in spec.parts]
    taken = [actions[:-1] for actions in seen or () if len(actions) > 1]  # the last row's was not
    known = {} if dataset.action_bounds is None else {"bounds": dataset.action_bounds.to_dict()}
    return {"kind": spec.kind, "dim": spec.dim, **({"parts": parts} if parts else {}), **known, **_bounds(taken)}


def _bounds(seen: list[np.ndarray] | None) -> dict[str, Any]:
    """The lowest and the highest of each number."""
    if not seen:
        return {}
    low = np.min([rows.min(axis=0) for rows in seen], axis=0)
    high = np.max([rows.max(axis=0) for rows in seen], axis=0)
    return {"low": np.round(low.astype(float), 6).tolist(), "high": np.round(high.astype(float), 6).tolist()}


def _sees(dataset: Dataset) -> dict[str, str]:
    """The tensors of a batch."""
    out = {f"obs[{name!r}]": _tensor(spec.shape, spec.dtype) for name, spec in dataset.obs_spec.items()}
    if dataset.action_spec.dim:
        out["actions"] = _tensor((dataset.action_spec.dim,), "float32")
    if dataset.has_rewards:
        out["rewards"] = _tensor((), "float32")
    extras = {f"extras['wf.data.{name}']": _tensor(spec.shape, spec.dtype) for name, spec in dataset.info_spec.items()}
    return out | {"is_first, is_last, is_terminal": _tensor((), "bool")} | extras


def _tensor(shape: tuple[int, ...], dtype: str) -> str:
    return f"[{', '.join(['B', 'T', *map(str, shape)])}] {dtype}"
