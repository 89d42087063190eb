"""What a saved replay must be before anything of the one that takes it back is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from worldflux.core.errors import CheckpointError
from worldflux.words.counts import counted

from ..storage import check_array, generator_state, whole
from .blocks import BlockFolder, Blocks, Columns
from .layout import Field
from .tiers import Tier

_WHAT = "replay"


def check_header(
    arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], identity: Mapping[str, Any], tier: Tier
) -> tuple[int, int, dict[str, Any]]:
    """Return the rows each stream had received, the oldest that is stored, and the generator's state.

    ``identity`` is what the replay that takes it back is; only its capacity may be another, while no row was lost.

    Raises:
        CheckpointError: it is of a replay of another shape, or something beside the rows is missing or damaged.
    """
    rows, streams, capacity = whole(meta, "rows", what=_WHAT), identity["streams"], identity["stream_capacity"]
    saved_capacity = whole(meta, "stream_capacity", what=_WHAT)
    never_full = rows <= min(capacity, saved_capacity)  # so no row has moved
    for name, mine in identity.items():
        if meta.get(name) != mine and name == "stream_capacity":
            if never_full:
                continue
            raise CheckpointError(
                f"the saved replay has received {counted(rows, 'row')} in each of {counted(streams, 'stream')} and "
                "keeps "
                f"{saved_capacity:,}, this one {capacity:,}: a ring that was filled goes on at its own size, "
                f"a capacity of {saved_capacity * streams} (replay_capacity)"
            )
        if meta.get(name) != mine:
            raise CheckpointError(f"the saved replay has {name} {meta.get(name)!r}, this one {mine!r}")
    if meta.get("frame_stacks", tier.stacks) != tier.stacks:  # earlier versions kept stacks whole
        raise CheckpointError(f"the saved replay has frame_stacks {meta['frame_stacks']!r}, this one {tier.stacks!r}")
    oldest = max(0, rows - capacity)
    _check_rows(arrays, "run_start", streams, limit=max(rows - 1, 0))
    if identity["online"]:
        _check_rows(arrays, "online/next", streams, limit=rows)
        _check_queue(arrays, oldest=oldest * streams, stop=(rows - identity["online"] + 1) * streams)
    return rows, oldest, generator_state(meta.get("rng"), _WHAT)


def saved_columns(
    arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], folder: BlockFolder | None, blocks: Blocks, tier: Tier
) -> Iterator[tuple[int, Columns]]:
    """Give the stored rows in stretches: the first row, and the columns ``[streams, n, …]``.

    Raises CheckpointError where one is missing, damaged, or holds what ``Replay.add`` refuses.
    """
    rows = meta["rows"]
    oldest = max(0, rows - tier.rows)
    if "blocks" not in meta:
        stretches = _whole_columns(arrays, tier, oldest=oldest, stop=rows)
    elif folder is not None:
        stretches = blocks.read(folder, meta["blocks"], oldest=oldest, stop=rows)
    else:
        raise CheckpointError("the saved replay has its rows in blocks of a checkpoint, and they were not given")
    for first, columns in stretches:
        _check_values(columns, tier.stored)
        yield first, columns


def _whole_columns(
    arrays: Mapping[str, np.ndarray], tier: Tier, *, oldest: int, stop: int
) -> Iterator[tuple[int, Columns]]:
    """The rows of arrays that hold all of them, each row at its number modulo the capacity."""
    columns = {name: _whole_column(arrays, name, tier, stop - oldest) for name in tier.stored}
    turn = oldest % tier.rows
    for first, part in ((oldest, slice(turn, None)), (stop - turn, slice(0, turn))):
        yield first, {name: column[:, part] for name, column in columns.items()}


def _whole_column(arrays: Mapping[str, np.ndarray], name: str, tier: Tier, rows: int) -> np.ndarray:
    field, stacked = tier.stored[name], name.replace("frames/", "obs/", 1)
    if name in arrays or stacked not in arrays:
        return check_array(arrays, name, (tier.streams, rows, *field.shape), field.dtype, what=_WHAT)
    channels, *size = field.shape  # an earlier version kept the stacks
    frames = tier.stacks[name.removeprefix("frames/")]
    shape = (tier.streams, rows, frames * channels, *size)
    return check_array(arrays, stacked, shape, field.dtype, what=_WHAT)[:, :, -channels:]


def saved_heads(arrays: Mapping[str, np.ndarray], tier: Tier, *, oldest: int, stop: int) -> dict[str, np.ndarray]:
    """Return ``head/NAME`` of each stack: the frames before the oldest row's. Raises CheckpointError."""
    heads = {}
    for name, frames in tier.stacks.items():
        field, shown, head = tier.stored[f"frames/{name}"], f"obs/{name}", f"head/{name}"
        shape = (tier.streams, frames - 1, *field.shape)
        if head in arrays or shown not in arrays:
            heads[head] = check_array(arrays, head, shape, field.dtype, what=_WHAT)
        elif oldest == stop:
            heads[head] = np.zeros(shape, field.dtype)
        else:  # an earlier version kept the stacks, the shape of which is checked by now
            stack = arrays[shown][:, oldest % tier.rows]
            heads[head] = stack.reshape(tier.streams, frames, *field.shape)[:, :-1]
        _check_values({head: heads[head]}, {head: field})
    return heads


def _check_values(columns: Mapping[str, np.ndarray], fields: Mapping[str, Field]) -> None:
    """What ``Replay.add`` refuses is not taken from a file either; latents are the model's, and never refused later."""
    for name, rows in columns.items():
        if fields[name].dtype.kind == "f" and not name.startswith("latent/"):
            for stream, values in enumerate(rows):
                if not np.isfinite(values).all():
                    raise CheckpointError(f"saved replay: {name!r} of stream {stream} is not finite everywhere")
    if "is_terminal" in columns and (columns["is_terminal"] & ~columns["is_last"]).any():
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
