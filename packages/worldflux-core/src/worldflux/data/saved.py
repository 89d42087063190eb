"""What a saved replay, or a saved source, must be before anything of the one that takes it back is changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from worldflux.core.errors import CheckpointError
from worldflux.core.spec import ModalitySpec

from .layout import Field
from .storage import check_array, generator_state, whole

_WHAT = "replay"


def check_replay(
    arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], layout: Mapping[str, Field], identity: Mapping[str, Any]
) -> tuple[int, int, dict[str, Any]]:
    """Return the rows each stream had received, how many of them are stored, and the generator's state.

    ``identity`` is what the replay that takes it back is; only its capacity may be another, while no row was lost.

    Raises:
        CheckpointError: it is of a replay of another shape, or something in it is missing or damaged.
    """
    rows, streams, capacity = whole(meta, "rows", what=_WHAT), identity["streams"], identity["stream_capacity"]
    saved_capacity = whole(meta, "stream_capacity", what=_WHAT)
    never_full = rows <= min(capacity, saved_capacity)  # so no row has moved
    for name, mine in identity.items():
        if meta.get(name) != mine and not (never_full and name == "stream_capacity"):
            raise CheckpointError(f"the saved replay has {name} {meta.get(name)!r}, this one {mine!r}")
    stored = min(rows, capacity)
    for name, field in layout.items():
        check_array(arrays, name, (streams, stored, *field.shape), field.dtype, what=_WHAT)
    _check_values(arrays, layout)
    _check_rows(arrays, "run_start", streams, limit=max(rows - 1, 0))
    if identity["online"]:
        _check_rows(arrays, "online/next", streams, limit=rows)
        _check_queue(arrays, oldest=(rows - stored) * streams, stop=(rows - identity["online"] + 1) * streams)
    return rows, stored, generator_state(meta.get("rng"), _WHAT)


def _check_values(arrays: Mapping[str, np.ndarray], layout: Mapping[str, Field]) -> None:
    """What ``Replay.add`` refuses is not taken from a file either; latents are the model's, and never refused later."""
    for name, field in layout.items():
        if field.dtype.kind == "f" and not name.startswith("latent/"):
            for stream, rows in enumerate(arrays[name]):
                if not np.isfinite(rows).all():
                    raise CheckpointError(f"saved replay: {name!r} of stream {stream} is not finite everywhere")
    if (arrays["is_terminal"] & ~arrays["is_last"]).any():
        raise CheckpointError("saved replay: a row is_terminal but not is_last: a terminal row ends its episode")


def _check_rows(arrays: Mapping[str, np.ndarray], name: str, streams: int, *, limit: int) -> None:
    rows = check_array(arrays, name, (streams,), np.dtype(np.int64), what=_WHAT)
    if (rows < 0).any() or (rows > limit).any():
        raise CheckpointError(f"saved replay: {name!r} is {rows.tolist()}, expected rows from 0 to {limit}")


def _check_queue(arrays: Mapping[str, np.ndarray], *, oldest: int, stop: int) -> None:
    """Handles of starts whose rows are all stored, oldest first."""
    length = np.size(arrays.get("online/queue", ()))
    queue = check_array(arrays, "online/queue", (length,), np.dtype(np.int64), what=_WHAT)
    if (queue < oldest).any() or (queue >= stop).any() or (np.diff(queue) <= 0).any():
        raise CheckpointError(
            f"saved replay: 'online/queue' holds no rising handles from {oldest} to below {stop}: {queue.tolist()[:9]}"
        )


def check_source(
    arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], obs_spec: Mapping[str, ModalitySpec], num_envs: int
) -> None:
    """Raise CheckpointError unless the counters of a saved source, and the row it was left at, are whole."""
    what = "source"
    whole(meta, "env_steps", what=what)
    whole({"rows": 0, **meta}, "rows", what=what)
    if meta.get("env_seed", "missing") is not None:
        whole(meta, "env_seed", what=what)
    kinds = {"credit": (int, float), "started": (bool,), "replay": (dict,), "statistics": (dict,)}
    for name, kind in {**kinds, "env": (dict, type(None))}.items():
        value = meta.get(name, ...)
        if type(value) not in kind or (name == "credit" and not math.isfinite(value)):
            raise CheckpointError(f"saved source: {name!r} is {value!r}, expected a {kind[0].__name__}")
    if "random" in meta:
        generator_state(meta["random"], what)
    if meta["env"] is not None:
        for name, spec in obs_spec.items():
            check_array(arrays, f"obs/{name}", (num_envs, *spec.shape), np.dtype(spec.dtype), what=what)
