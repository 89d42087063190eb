"""The harness card of an evaluation by horizon: on what it was made, and how. Numbers of two cards do not compare."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from ..segments import Segments

if TYPE_CHECKING:
    from worldflux.data import Dataset


def card_of(model: Any, data: Dataset | Segments, **asked: Any) -> dict[str, Any]:
    """Return the card of an evaluation; what was asked for as None is not on it."""
    rows = (asked["context"] + asked["horizon"] - 1) * (asked["frame_skip"] or 1) + 1
    told = {name: value for name, value in asked.items() if value is not None}
    return {"model": _about_model(model), "data": _about_data(data, rows=rows), **told, "versions": _versions()}


def _about_model(model: Any) -> dict[str, Any]:
    """Return the family, the class and the number of parameters."""
    config = getattr(model, "config", None)
    about = {"class": type(model).__name__, "parameters": sum(p.numel() for p in model.parameters())}
    return about if config is None else {"family": config.model_type, **about}


def _about_data(data: Dataset | Segments, *, rows: int) -> dict[str, Any]:
    """Return what tells this data from other data; ``rows`` are those a sequence needs."""
    if isinstance(data, Segments):
        digest = hashlib.sha256()
        for array in (*data.obs.values(), data.actions, data.rewards, data.is_terminal):
            digest.update(np.ascontiguousarray(array).tobytes())
        return {"kind": "segments", "fingerprint": digest.hexdigest()}
    table = data.episodes
    return {
        "kind": data.recording.format,
        "place": str(data.recording.place),
        "fingerprint": data.fingerprint,
        "episodes": len(table),
        "rows": table.rows,
        "too_short": int((table.lengths < rows).sum()),
    }


def _versions() -> dict[str, str]:
    """Return the versions of what computed the numbers."""
    found = {name: metadata.version(name) for name in ("worldflux-core", "torch", "numpy")}
    return {"python": platform.python_version(), **found}
