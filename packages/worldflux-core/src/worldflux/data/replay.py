"""The replay: a ring of rows per stream in plain numpy, sampled as sequences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from worldflux.core.batch import Batch
from worldflux.core.errors import BufferError, ConfigurationError, ShapeMismatchError, did_you_mean
from worldflux.core.spec import ActionSpec, ModalitySpec

from .draws import Draws
from .index import CrossStarts, OnlineQueue, WithinStarts
from .layout import (
    FLAGS,
    check_names,
    check_options,
    check_specs,
    check_value,
    log_budget,
    record_dtype,
    row_bytes,
    row_layout,
)
from .providers import BatchRequest, check_request
from .saved import check_replay
from .storage import load_arrays, save_arrays

if TYPE_CHECKING:
    from worldflux.envs import Step

INDEX_KEY = "wf.replay.index"
_MAX_LENGTHS = 4  # "within" keeps one index for each of the last few sequence lengths
LatentSpec = Mapping[str, tuple[tuple[int, ...], str]]


class Replay:
    """The last ``capacity`` rows of ``num_streams`` environments, sampled uniformly over every possible start.

    Args:
        capacity: rows in all; each stream keeps ``capacity // num_streams``.
        obs_spec: the observations by name; ``action_spec``: the flat action.
        latent_spec: latents stored beside the rows, name to ``(shape, dtype)``; ``update`` replaces them.
        sequence_length: the length of ``sample`` when the request has none, and of the online queue's blocks.
        boundary: ``"cross"`` lets a sequence run into the next episode (the model resets where ``is_first``),
            ``"within"`` keeps it inside one.
        online: give each fresh block of ``sequence_length`` rows exactly once before drawing uniformly.
        seed: of the replay's own generator; no global one is touched. A copy in another process (a DataLoader's
            worker) draws from a stream of its own.

    Raises:
        ConfigurationError: an option that does not exist or cannot work.
    """

    def __init__(
        self,
        capacity: int,
        *,
        obs_spec: Mapping[str, ModalitySpec],
        action_spec: ActionSpec,
        num_streams: int = 1,
        latent_spec: LatentSpec | None = None,
        sequence_length: int | None = None,
        boundary: str = "cross",
        online: bool = False,
        seed: int = 0,
    ) -> None:
        check_options(capacity, num_streams, sequence_length, boundary, online, seed)
        check_specs(obs_spec, action_spec)
        self._layout = row_layout(obs_spec, action_spec, latent_spec)
        self._latents = [name for name in self._layout if name.startswith("latent/")]
        self._streams, self._capacity = num_streams, capacity // num_streams
        self.obs_spec, self.action_spec = dict(obs_spec), action_spec
        self.sequence_length, self.boundary = sequence_length, boundary
        self._draws = Draws(seed)
        self._rows = 0  # rows each stream ever received
        self._run_start = np.zeros(num_streams, np.int64)  # first row of each stream's open episode
        self._index: dict[int, CrossStarts | WithinStarts] = {}
        self._online = OnlineQueue(sequence_length, num_streams) if online and sequence_length else None
        log_budget(self._layout, num_streams, self._capacity)
        # Zeros are mapped by the system only as they are written, so memory grows with the rows.
        self._records = np.zeros((num_streams, self._capacity), record_dtype(self._layout))
        self._data = {
            name: self._records[name]
            if name in self._records.dtype.fields
            else np.zeros((num_streams, self._capacity, *field.shape), field.dtype)
            for name, field in self._layout.items()
        }

    def __len__(self) -> int:
        """Rows stored, over all streams."""
        return self._stored * self._streams

    @property
    def capacity(self) -> int:
        """Rows it can hold, over all streams."""
        return self._capacity * self._streams

    @property
    def num_streams(self) -> int:
        """Environments whose rows it keeps apart."""
        return self._streams

    @property
    def latent_names(self) -> list[str]:
        """The latents stored beside the rows."""
        return [name.removeprefix("latent/") for name in self._latents]

    @property
    def nbytes(self) -> int:
        """Bytes of the storage when full."""
        return row_bytes(self._layout) * self.capacity

    @staticmethod
    def estimate_bytes(
        capacity: int,
        *,
        obs_spec: Mapping[str, ModalitySpec],
        action_spec: ActionSpec,
        num_streams: int = 1,
        latent_spec: LatentSpec | None = None,
    ) -> int:
        """Return the bytes a full replay of these arguments takes, without building it."""
        return row_bytes(row_layout(obs_spec, action_spec, latent_spec)) * (capacity // num_streams) * num_streams

    @property
    def _stored(self) -> int:
        return min(self._rows, self._capacity)

    @property
    def _oldest(self) -> int:
        return self._rows - self._stored

    # -- writing ---------------------------------------------------------------------------------------------------

    def add(self, step: Step, action: np.ndarray, latents: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """Store one row of every stream and return the rows' handles ``[N]``.

        ``action`` ``[N, A]`` is what was done after seeing ``step``, ``latents`` ``[N, …]`` what ``latent_spec`` names.
        Where a fresh episode follows one that had not ended, the row before it becomes ``is_last``.

        Raises:
            BufferError: names, dtypes or flags are wrong, or a number is not finite; ShapeMismatchError: shapes are.
            Nothing is stored then.
        """
        row = self._check_row(step, action, latents)
        position, previous = self._rows % self._capacity, (self._rows - 1) % self._capacity
        if self._rows:
            self._data["is_last"][:, previous] |= row["is_first"]
        for name, value in row.items():
            self._data[name][:, position] = value
        self._run_start[row["is_first"]] = self._rows
        self._rows += 1
        runs = self._run_start if self.boundary == "within" else np.zeros_like(self._run_start)
        for index in self._indices():
            index.expire(self._oldest)
            index.extend(self._rows - 1, runs)
        return (self._rows - 1) * self._streams + np.arange(self._streams)

    def end_episodes(self) -> None:
        """Mark the newest row of every stream ``is_last``: what follows begins anew (a crash, a resumed run)."""
        if self._rows:
            self._data["is_last"][:, (self._rows - 1) % self._capacity] = True

    def update(self, batch: Batch, latents: Mapping[str, Tensor]) -> int:
        """Replace the latents of the last ``T'`` rows of a sampled batch by ``latents`` ``[B, T', …]``.

        Rows that were overwritten since are left alone. Returns the number of rows written.

        Raises:
            BufferError: the batch has no handles, or a latent is not in ``latent_spec``; ShapeMismatchError. Nothing is
            written then.
        """
        if INDEX_KEY not in batch.extras:
            raise BufferError(
                f"the batch has no extras[{INDEX_KEY!r}]: only batches sampled from a replay can be updated"
            )
        handles = batch.extras[INDEX_KEY].detach().cpu().numpy()
        arrays = {name: self._check_latent(name, value, handles.shape) for name, value in latents.items()}
        written = 0
        for name, array in arrays.items():
            rows, streams = np.divmod(handles[:, -array.shape[1] :], self._streams)
            live = (rows >= self._oldest) & (rows < self._rows)
            self._data[f"latent/{name}"][streams[live], rows[live] % self._capacity] = array[live]
            written = max(written, int(live.sum()))
        return written

    def _check_latent(self, name: str, value: Tensor, batch: tuple[int, ...]) -> np.ndarray:
        known = self.latent_names
        if name not in known:
            raise BufferError(f"unknown latent {name!r}, stored are {known}.{did_you_mean(name, known)}")
        array, field = as_numpy(value), self._layout[f"latent/{name}"]
        steps = array.shape[1] if array.ndim > 1 else 0
        if array.shape != (batch[0], steps, *field.shape) or not 0 < steps <= batch[1]:
            raise ShapeMismatchError(
                f"latent {name!r} does not fit the batch",
                expected=(batch[0], f"1..{batch[1]}", *field.shape),
                got=array.shape,
            )
        return array

    def _check_row(self, step: Step, action: np.ndarray, latents: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
        if not isinstance(getattr(step, "obs", None), Mapping):
            raise BufferError(f"step is a {type(step).__name__}, expected a worldflux.envs.Step with obs by name")
        if not isinstance(latents, Mapping | None):
            raise BufferError(f"latents is a {type(latents).__name__}, expected arrays by name")
        check_names("observation", step.obs, self.obs_spec)
        check_names("latent", latents or {}, dict.fromkeys(self.latent_names))
        given = {f"obs/{name}": value for name, value in step.obs.items()}
        given |= {"action": action, "reward": step.reward} | {flag: getattr(step, flag) for flag in FLAGS}
        given |= {f"latent/{name}": value for name, value in (latents or {}).items()}
        row = {
            name: check_value(name, given[name], field, self._streams, self._rows)
            for name, field in self._layout.items()
        }
        if (row["is_terminal"] & ~row["is_last"]).any():
            raise BufferError(f"row {self._rows} is_terminal but not is_last: a terminal row ends its episode")
        previous = (self._rows - 1) % self._capacity
        must_begin = self._data["is_last"][:, previous] if self._rows else np.ones(self._streams, bool)
        if (must_begin & ~row["is_first"]).any():
            env = int(np.argmax(must_begin & ~row["is_first"]))
            raise BufferError(
                f"row {self._rows} of environment {env} must be is_first: "
                + ("the row before it was is_last" if self._rows else "an episode begins with such a row")
            )
        return row

    # -- sampling --------------------------------------------------------------------------------------------------

    def num_valid_starts(self, seq_len: int) -> int:
        """Return how many rows a sequence of ``seq_len`` rows may start at."""
        return len(self._starts(seq_len))

    def longest_episode(self) -> int:
        """Return the rows of the longest episode that is stored, in part or whole."""
        first = self._data["is_first"][:, np.arange(self._oldest, self._rows) % self._capacity]
        rows = np.arange(first.shape[1])
        begun = np.maximum.accumulate(np.where(first, rows, 0), axis=1)
        return 1 + int((rows - begun).max(initial=-1))

    def sample(self, request: BatchRequest) -> Batch:
        """Return ``request.batch_size`` sequences; every valid start is equally likely (fresh blocks first).

        The batch has ``obs`` (a dict), ``actions``, ``rewards``, the flags, ``context`` (latents, if stored) and
        ``extras["wf.replay.index"]``, the int64 handles ``[B, T]`` of its rows.

        Raises:
            BufferError: no stored sequence is that long. ConfigurationError: this is no request.
        """
        request = check_request(request)
        length = request.seq_len or self.sequence_length
        if length is None:
            raise ConfigurationError("no sequence length: pass seq_len, or sequence_length to the Replay")
        starts = self._starts(length)
        if not len(starts):
            raise BufferError(self._too_short(length))
        fresh, share = np.empty(0, np.int64), self._draws.settle()
        if share is not None and self._online is not None:
            self._online.keep(share)
        if self._online is not None and length == self._online.length:
            fresh = self._online.pop(request.batch_size)
        drawn = starts.draw(self._draws.generator, request.batch_size - len(fresh))
        batch = self._gather(np.concatenate([fresh, drawn]) if len(fresh) else drawn, length)
        return batch if torch.device(request.device).type == "cpu" else batch.to(request.device)

    def _indices(self) -> list[CrossStarts | WithinStarts | OnlineQueue]:
        return [*self._index.values(), *([] if self._online is None else [self._online])]

    def _starts(self, length: int) -> CrossStarts | WithinStarts:
        starts = self._index.get(length)
        if starts is None:
            if length > self._capacity:
                raise BufferError(
                    f"sequences of {length} rows do not fit: each of the {self._streams} streams keeps "
                    f"{self._capacity} rows; a capacity of at least {length * self._streams} would hold one"
                )
            starts = self._index[length] = self._build(length)
            if len(self._index) > _MAX_LENGTHS:
                del self._index[next(iter(self._index))]
        return starts

    def _build(self, length: int) -> CrossStarts | WithinStarts:
        if self.boundary == "cross":
            cross = CrossStarts(length, self._streams)
            cross.expire(self._oldest)
            cross.extend(self._rows - 1, self._run_start)
            return cross
        within = WithinStarts(length, self._streams, self._capacity)
        order = np.arange(self._oldest, self._rows) % self._capacity
        within.fill(self._data["is_first"][:, order], self._oldest)
        return within

    def _gather(self, starts: np.ndarray, length: int) -> Batch:
        rows, streams = np.divmod(starts, self._streams)
        positions = (rows[:, None] + np.arange(length)) % self._capacity
        flat = (streams[:, None] * self._capacity + positions).ravel()
        records = self._records.reshape(-1).take(flat).reshape(positions.shape)
        out = {
            name: torch.from_numpy(
                np.ascontiguousarray(records[name])
                if name in records.dtype.fields
                else self._slices(name, streams, positions[:, 0], length)
            )
            for name in self._layout
        }
        handles = starts[:, None] + np.arange(length) * self._streams
        return Batch(
            obs={name: out[f"obs/{name}"] for name in self.obs_spec},
            actions=out["action"],
            rewards=out["reward"],
            context={name: out[f"latent/{name}"] for name in self.latent_names} or None,
            extras={INDEX_KEY: torch.from_numpy(handles)},
            is_first=out["is_first"],
            is_last=out["is_last"],
            is_terminal=out["is_terminal"],
        )

    def _slices(self, name: str, streams: np.ndarray, positions: np.ndarray, length: int) -> np.ndarray:
        data = self._data[name]
        out = np.empty((len(streams), length, *data.shape[2:]), data.dtype)
        for i, (stream, start) in enumerate(zip(streams.tolist(), positions.tolist(), strict=True)):
            head = min(length, self._capacity - start)
            out[i, :head] = data[stream, start : start + head]
            out[i, head:] = data[stream, : length - head]
        return out

    def _too_short(self, length: int) -> str:
        have = f"the replay holds {len(self)} rows, {self._stored} in each of {self._streams} streams"
        if self._stored >= length:
            what = f"no episode has {length} rows, the longest has {self.longest_episode()} ({have})"
            return f"{what}: ask for shorter sequences, or use boundary='cross'"
        return f"sequences of {length} rows were asked for, but {have}: add more rows or ask for shorter sequences"

    # -- saving ----------------------------------------------------------------------------------------------------

    def state_dict(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the stored rows (views, by name) and the JSON-able rest, generator included."""
        arrays = {name: array[:, : self._stored] for name, array in self._data.items()}
        arrays["run_start"] = self._run_start.copy()
        if self._online is not None:
            arrays |= {f"online/{name}": array for name, array in self._online.state().items()}
        meta = {"format": 1, "rows": self._rows, "rng": self._draws.state, **self._identity()}
        return arrays, meta

    def load_state_dict(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned, into this capacity or, while it was not full, any that holds it.

        Sampling goes on bit for bit.

        Raises:
            CheckpointError: it is of a replay of another shape, or an array is missing, cut or damaged. Nothing
            changes then.
        """
        rows, stored, rng = check_replay(arrays, meta, self._layout, self._identity())
        for name in self._layout:
            self._data[name][:, :stored] = arrays[name]
        self._rows, self._index = rows, {}
        self._run_start[:] = arrays["run_start"]
        if self._online is not None:
            self._online.load({name: arrays[f"online/{name}"] for name in ("queue", "next")})
        self._draws.state = rng

    def check_state(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Raise CheckpointError where ``load_state_dict`` would; nothing changes."""
        check_replay(arrays, meta, self._layout, self._identity())

    def save(self, directory: str | Path) -> Path:
        """Write the replay into ``directory`` (``.npy`` files and a JSON page) and return it."""
        return save_arrays(directory, *self.state_dict())

    def load(self, directory: str | Path) -> None:
        """Read what ``save`` wrote. Raises CheckpointError if it is damaged or of another shape."""
        self.load_state_dict(*load_arrays(directory))

    def _identity(self) -> dict[str, Any]:
        return {
            "streams": self._streams,
            "stream_capacity": self._capacity,
            "boundary": self.boundary,
            "online": 0 if self._online is None else self._online.length,
            "row": {name: [list(field.shape), field.dtype.name] for name, field in self._layout.items()},
        }


def as_numpy(value: Tensor) -> np.ndarray:
    """Return a tensor as an array; bfloat16, which numpy has not, as float32."""
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
