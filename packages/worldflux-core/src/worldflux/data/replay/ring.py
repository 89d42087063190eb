"""The replay: a ring of rows per stream, sampled as sequences."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from worldflux.core.batch import Batch
from worldflux.core.errors import BufferError, ConfigurationError
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.words.counts import counted

from ..draws import Draws
from ..native.page import specs_json
from ..providers import BatchRequest, check_request
from ..storage import load_arrays, save_arrays
from .blocks import BlockFolder, Blocks
from .frames import Frames
from .layout import check_options, kept_as, row_layout, rows_within, storage_bytes
from .rows import check_begins, check_latent, check_row
from .saved import check_header, saved_columns, saved_heads
from .starts import CrossStarts, OnlineQueue, WithinStarts, too_short
from .storing import check_storage, make_tier

if TYPE_CHECKING:
    from worldflux.envs import Step

INDEX_KEY = "wf.replay.index"
_MAX_LENGTHS = 4  # "within" keeps one index for each of the last few sequence lengths
LatentSpec = Mapping[str, tuple[tuple[int, ...], str]]


class Replay:
    """The last ``capacity`` rows of ``num_streams`` environments, sampled uniformly over every possible start.

    Args:
        capacity: rows in all; each stream keeps ``capacity // num_streams``. A text such as ``"8GB"`` is what they may
            take.
        obs_spec: the observations by name; ``action_spec``: the flat action.
        latent_spec: latents stored beside the rows, name to ``(shape, dtype)``; ``update`` replaces them.
        frame_stacks: observations that are the last so many frames on their first axis, as ``FrameStack`` shows them,
            by name: single frames are kept, and stacked in a batch.
        sequence_length: the length of ``sample`` when the request has none, and of the online queue's blocks.
        boundary: ``"cross"`` lets a sequence run into the next episode (the model resets where ``is_first``),
            ``"within"`` keeps it inside one.
        online: give each fresh block of ``sequence_length`` rows exactly once before drawing uniformly.
        storage: ``"ram"``; ``"mmap"``, files that the system maps into memory; ``"cuda"`` or ``"cuda:N"``, where the
            batches are made, too; ``"auto"`` is ``"ram"``, and ``"mmap"`` where the memory is not enough, which is
            logged, as is what a full replay takes.
        directory: where ``"mmap"`` has its files, which end with the process; default: the system's for such files.
        seed: of the replay's own generator; no global one is touched. A copy in another process (a DataLoader's
            worker) draws from a stream of its own.

    Raises:
        ConfigurationError: an option that does not exist or cannot work, or the storage has no room.
    """

    def __init__(
        self,
        capacity: int | str,
        *,
        obs_spec: Mapping[str, ModalitySpec],
        action_spec: ActionSpec,
        num_streams: int = 1,
        latent_spec: LatentSpec | None = None,
        frame_stacks: Mapping[str, int] | None = None,
        sequence_length: int | None = None,
        boundary: str = "cross",
        online: bool = False,
        storage: str = "auto",
        directory: str | Path | None = None,
        seed: int = 0,
    ) -> None:
        if isinstance(capacity, str):
            what = obs_spec, action_spec, latent_spec, frame_stacks
            capacity = rows_within(capacity, *kept_as(*what), streams=num_streams)
        check_options(capacity, num_streams, sequence_length, boundary, online, seed)
        check_storage(storage)
        stored, self._stacks = kept_as(obs_spec, action_spec, latent_spec, frame_stacks)
        self._layout = row_layout(obs_spec, action_spec, latent_spec)
        self._latents = dict.fromkeys(latent_spec or {})
        self._streams, self._capacity = num_streams, capacity // num_streams
        self.obs_spec, self.action_spec = dict(obs_spec), action_spec
        self.sequence_length, self.boundary = sequence_length, boundary
        self._draws = Draws(seed)
        self._rows = 0  # rows each stream ever received
        self._run_start = np.zeros(num_streams, np.int64)  # first row of each stream's open episode
        self._index: dict[int, CrossStarts | WithinStarts] = {}
        self._online = OnlineQueue(sequence_length, num_streams) if online and sequence_length else None
        self._tier = make_tier(storage, directory, stored, self._stacks, streams=num_streams, rows=self._capacity)
        self._frames, self._blocks = Frames(self._tier), Blocks(self._tier)

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
        return list(self._latents)

    @property
    def nbytes(self) -> int:
        """Bytes of the storage when full."""
        return storage_bytes(self._tier.stored, self._stacks, rows=self._capacity, streams=self._streams)

    @staticmethod
    def estimate_bytes(
        capacity: int,
        *,
        obs_spec: Mapping[str, ModalitySpec],
        action_spec: ActionSpec,
        num_streams: int = 1,
        latent_spec: LatentSpec | None = None,
        frame_stacks: Mapping[str, int] | None = None,
    ) -> int:
        """Return the bytes a full replay of these arguments takes, without building it."""
        stored, stacks = kept_as(obs_spec, action_spec, latent_spec, frame_stacks)
        return storage_bytes(stored, stacks, rows=capacity // num_streams, streams=num_streams)

    @staticmethod
    def rows_within(
        size: str,
        *,
        obs_spec: Mapping[str, ModalitySpec],
        action_spec: ActionSpec,
        num_streams: int = 1,
        latent_spec: LatentSpec | None = None,
        frame_stacks: Mapping[str, int] | None = None,
    ) -> int:
        """Return the capacity of a replay that takes at most a size such as ``"8GB"``. Raises ConfigurationError."""
        return rows_within(size, *kept_as(obs_spec, action_spec, latent_spec, frame_stacks), streams=num_streams)

    @property
    def frame_stacks(self) -> dict[str, int]:
        """The observations that are stacks of frames, each with how many."""
        return dict(self._stacks)

    @property
    def held(self) -> range:
        """The rows that every stream holds, by their numbers since its first."""
        return range(self._oldest, self._rows)

    def column(self, name: str, first: int, stop: int) -> np.ndarray:
        """Return held rows ``first`` to ``stop``, ``[streams, n, …]``, of a column: of stacks ``frames/NAME``."""
        return self._tier.read(name, first, stop)

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
        number, last = self._rows, self._tier.flags["is_last"]
        row = check_row(
            step,
            action,
            latents,
            self._layout,
            observations=self.obs_spec,
            known_latents=self._latents,
            streams=self._streams,
            number=number,
        )
        previous = (number - 1) % self._capacity
        check_begins(row["is_first"], last[:, previous] if number else np.ones(self._streams, bool), number=number)
        kept = self._frames.split(row, number=number)
        if number:
            last[:, previous] |= row["is_first"]
        self._run_start[row["is_first"]] = number
        self._tier.write(number, kept, self._frames.ages(number - self._run_start))
        self._frames.keep(row)
        self._rows += 1
        runs = self._run_start if self.boundary == "within" else np.zeros_like(self._run_start)
        for index in self._indices():
            index.expire(self._oldest)
            index.extend(number, runs)
        return number * self._streams + np.arange(self._streams)

    def end_episodes(self) -> None:
        """Mark the newest row of every stream ``is_last``: what follows begins anew (a crash, a resumed run)."""
        if self._rows:
            self._tier.flags["is_last"][:, (self._rows - 1) % self._capacity] = True

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
        values = {name: check_latent(name, value, self._layout, handles.shape) for name, value in latents.items()}
        written = 0
        for name, value in values.items():
            rows, streams = np.divmod(handles[:, -value.shape[1] :], self._streams)
            live = (rows >= self._oldest) & (rows < self._rows)
            self._tier.put(f"latent/{name}", streams, rows, value, live)
            self._blocks.changed(rows[live])
            written = max(written, int(live.sum()))
        return written

    # -- sampling --------------------------------------------------------------------------------------------------

    def num_valid_starts(self, seq_len: int) -> int:
        """Return how many rows a sequence of ``seq_len`` rows may start at."""
        return len(self._starts(seq_len))

    def longest_episode(self) -> int:
        """Return the rows of the longest episode that is stored, in part or whole."""
        first = self._tier.read("is_first", self._oldest, self._rows)
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
            held = {"streams": self._streams, "rows": self._stored, "longest": self.longest_episode()}
            raise BufferError(too_short(length, **held))
        fresh, share = np.empty(0, np.int64), self._draws.settle()
        if share is not None and self._online is not None:
            self._online.keep(share)
        if self._online is not None and length == self._online.length:
            fresh = self._online.pop(request.batch_size)
        drawn = starts.draw(self._draws.generator, request.batch_size - len(fresh))
        batch = self._gather(np.concatenate([fresh, drawn]) if len(fresh) else drawn, length)
        home = self._tier.device.type == torch.device(request.device).type == "cpu"
        return batch if home else batch.to(request.device)

    def apart(self, *, seed: int) -> Replay:
        """Return what draws from the rows there are now by a generator of its own; this one's stays where it is."""
        other = copy.copy(self)
        other._draws, other._online, other._index = Draws(seed), None, {}
        return other

    def _indices(self) -> list[CrossStarts | WithinStarts | OnlineQueue]:
        return [*self._index.values(), *([] if self._online is None else [self._online])]

    def _starts(self, length: int) -> CrossStarts | WithinStarts:
        starts = self._index.get(length)
        if starts is None:
            if length > self._capacity:
                raise BufferError(
                    f"sequences of {counted(length, 'row')} do not fit: each of the "
                    f"{counted(self._streams, 'stream')} keeps "
                    f"{counted(self._capacity, 'row')}; a capacity of at least {length * self._streams} would hold one"
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
        within.fill(self._tier.read("is_first", self._oldest, self._rows), self._oldest)
        return within

    def _gather(self, starts: np.ndarray, length: int) -> Batch:
        rows, streams = np.divmod(starts, self._streams)
        out = self._tier.gather(streams, rows, length)
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

    # -- saving ----------------------------------------------------------------------------------------------------

    def state_dict(self, blocks: BlockFolder | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the stored rows (by name, views where that is possible) and the JSON-able rest, generator included.

        With ``blocks`` the rows go there, and only those are written that the folder cannot take over from the
        checkpoint before.
        """
        meta = {"format": 1, "rows": self._rows, "rng": self._draws.state, **self._identity()}
        meta["specs"] = specs_json(self.obs_spec, self.action_spec)
        if self._stacks:
            meta["frame_stacks"] = self._stacks
        if blocks is None:
            arrays = {name: self._tier.whole(name, self._oldest, self._rows) for name in self._tier.stored}
        else:
            arrays, meta["blocks"] = {}, self._blocks.save(blocks, oldest=self._oldest, stop=self._rows)
        arrays |= self._frames.heads(oldest=self._oldest, stop=self._rows)
        arrays["run_start"] = self._run_start.copy()
        if self._online is not None:
            arrays |= {f"online/{name}": array for name, array in self._online.state().items()}
        return arrays, meta

    def load_state_dict(
        self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], blocks: BlockFolder | None = None
    ) -> None:
        """Restore what ``state_dict`` returned, into this capacity or, while it was not full, any that holds it.

        Sampling goes on bit for bit.

        Raises:
            CheckpointError: it is of a replay of another shape, or an array is missing, cut or damaged. Nothing
            changes then.
        """
        rows, oldest, rng, heads = self.check_state(arrays, meta, blocks)
        for first, columns in saved_columns(arrays, meta, blocks, self._blocks, self._tier):
            self._tier.fill(columns, first=first)
        self._rows, self._index = rows, {}
        self._blocks.adopt(meta.get("blocks"), stop=rows)
        self._frames.load(heads, oldest=oldest, stop=rows)
        self._run_start[:] = arrays["run_start"]
        if self._online is not None:
            self._online.load({name: arrays[f"online/{name}"] for name in ("queue", "next")})
        self._draws.state = rng

    def check_state(
        self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], blocks: BlockFolder | None = None
    ) -> tuple[int, int, dict[str, Any], dict[str, np.ndarray]]:
        """Return what is in a state beside its rows: how many, the oldest, the generator's state, earlier frames.

        Raises CheckpointError where ``load_state_dict`` would; nothing changes.
        """
        rows, oldest, rng = check_header(arrays, meta, self._identity(), self._tier)
        for _ in saved_columns(arrays, meta, blocks, self._blocks, self._tier):
            pass  # each is checked as it comes
        return rows, oldest, rng, saved_heads(arrays, self._tier, oldest=oldest, stop=rows)

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
