"""Where the rows of a replay are kept: in arrays, of memory or of mapped files, or in tensors of a device.

A row is counted from the first that a stream ever received; it lies at that number modulo the ring's size. The ring of
a stack's frames is as many rows longer as the oldest row's stack reaches back. Flags are arrays in every tier: the
index of starts is made from them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..row import FLAGS
from .layout import Field, alone, earlier_frames, record_dtype
from .mapped import MappedFiles

Make = Callable[[tuple[int, ...], np.dtype], np.ndarray]


class Tier(ABC):
    """The rings of a replay's columns. ``stored`` says what a row is kept as, ``stacks`` the frames of a stack."""

    device = torch.device("cpu")

    def __init__(self, stored: Mapping[str, Field], stacks: Mapping[str, int], *, streams: int, rows: int) -> None:
        self.stored, self.stacks, self.streams, self.rows = dict(stored), dict(stacks), streams, rows
        self.ring = {name: rows + earlier_frames(name, stacks) for name in stored}
        #: Frames of the same episode before each row, as far as a stack has use for them.
        self.age = np.zeros((streams, rows if stacks else 0), np.uint16)
        self.flags: dict[str, np.ndarray] = {}

    def write(self, row: int, values: Mapping[str, np.ndarray], age: np.ndarray) -> None:
        """Store one row ``[streams, …]`` of every column."""
        self.fill({name: value[:, None] for name, value in values.items()}, first=row)
        if self.stacks:
            self.age[:, row % self.rows] = age

    def fill(self, columns: Mapping[str, np.ndarray], *, first: int) -> None:
        """Store rows ``[streams, n, …]`` of some columns, from row ``first`` on."""
        for name, values in columns.items():
            ring, taken = self.ring[name], 0
            while taken < values.shape[1]:
                at = (first + taken) % ring
                n = min(ring - at, values.shape[1] - taken)
                self._store(name, slice(at, at + n), values[:, taken : taken + n])
                taken += n

    def read(self, name: str, first: int, stop: int) -> np.ndarray:
        """Return rows ``first`` to ``stop`` of a column, ``[streams, n, …]``: a view where they lie in one stretch."""
        ring, parts = self.ring[name], []
        while first < stop:
            at = first % ring
            n = min(ring - at, stop - first)
            parts.append(self._load(name, slice(at, at + n)))
            first += n
        if len(parts) == 1:
            return parts[0]
        field = self.stored[name]
        return np.concatenate(parts, 1) if parts else np.empty((self.streams, 0, *field.shape), field.dtype)

    def whole(self, name: str, oldest: int, stop: int) -> np.ndarray:
        """Return all stored rows of a column, each at its number modulo the capacity; a view where that is possible."""
        if self.ring[name] == self.rows:
            return self._load(name, slice(0, stop - oldest))
        turned = stop - oldest % self.rows
        return np.concatenate([self.read(name, turned, stop), self.read(name, oldest, turned)], 1)

    @abstractmethod
    def put(self, name: str, streams: np.ndarray, rows: np.ndarray, values: Tensor, live: np.ndarray) -> None:
        """Replace single rows of a column: those of ``values`` (shaped as ``streams`` and ``rows``) that are live."""

    @abstractmethod
    def gather(self, streams: np.ndarray, starts: np.ndarray, length: int) -> dict[str, Tensor]:
        """Return ``length`` rows from each start, ``[B, T, …]`` by column; ``obs/NAME`` for stacks."""

    def _frames(self, name: str, streams: np.ndarray, starts: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Where the frames are that make the stacks of rows ``[B, T]``: the oldest first, each in the flat ring.

        ``positions`` are those of the rows in a ring without earlier frames.
        """
        rows, ring = starts[:, None] + np.arange(positions.shape[1]), self.ring[name]
        back = np.arange(ring - self.rows, -1, -1)
        ages = self.age.reshape(-1).take(streams[:, None] * self.rows + positions)
        frames = rows[..., None] - np.minimum(back, ages[..., None])
        return (streams[:, None, None] * ring + frames % ring).ravel()

    def _stacked(self, name: str, rows: tuple[int, ...]) -> tuple[int, ...]:
        channels, *size = self.stored[name].shape
        return (*rows, channels * (self.ring[name] - self.rows + 1), *size)

    @abstractmethod
    def _store(self, name: str, where: slice, values: np.ndarray) -> None: ...

    @abstractmethod
    def _load(self, name: str, where: slice) -> np.ndarray: ...


class ArrayTier(Tier):
    """Rows in numpy arrays; the small ones of a row lie beside each other as one record."""

    def __init__(
        self, stored: Mapping[str, Field], stacks: Mapping[str, int], *, files: MappedFiles | None = None, **sizes: int
    ) -> None:
        super().__init__(stored, stacks, **sizes)
        self._files = files
        # Zeros are mapped by the system only as they are written, so memory grows with the rows.
        make: Make = np.zeros if files is None else files.zeros
        self._records = make((self.streams, self.rows), record_dtype(stored))
        self._large = {
            name: make((self.streams, self.ring[name], *field.shape), field.dtype)
            for name, field in stored.items()
            if alone(name, field)
        }
        self._name_columns()

    def _name_columns(self) -> None:
        small = {name: self._records[name] for name in self._records.dtype.names or ()}
        self._columns = {name: self._large[name] if name in self._large else small[name] for name in self.stored}
        self.flags = {name: self._columns[name] for name in FLAGS}

    def __getstate__(self) -> dict[str, Any]:
        """A copy of what is mapped is in memory; columns are views, which a copy must make anew."""
        return {**vars(self), "_files": None, "_columns": {}, "flags": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._name_columns()

    def write(self, row: int, values: Mapping[str, np.ndarray], age: np.ndarray) -> None:
        """Store one row ``[streams, …]`` of every column."""
        position = row % self.rows
        for name, value in values.items():
            at = position if self.ring[name] == self.rows else row % self.ring[name]
            self._columns[name][:, at] = value
        if self.stacks:
            self.age[:, position] = age
        if self._files is not None:
            self._files.touch(sum(value.nbytes for value in values.values()))

    def _store(self, name: str, where: slice, values: np.ndarray) -> None:
        self._columns[name][:, where] = values
        if self._files is not None:
            self._files.touch(values.nbytes)

    def _load(self, name: str, where: slice) -> np.ndarray:
        found = self._columns[name][:, where]
        if self._files is not None:
            self._files.touch(found.nbytes)
        return found

    def put(self, name: str, streams: np.ndarray, rows: np.ndarray, values: Tensor, live: np.ndarray) -> None:
        """Replace single rows of a column."""
        self._columns[name][streams[live], rows[live] % self.ring[name]] = as_numpy(values)[live]

    def gather(self, streams: np.ndarray, starts: np.ndarray, length: int) -> dict[str, Tensor]:
        """Return ``length`` rows from each start, ``[B, T, …]`` by column; ``obs/NAME`` for stacks."""
        positions = (starts[:, None] + np.arange(length)) % self.rows
        flat = (streams[:, None] * self.rows + positions).ravel()
        records = self._records.reshape(-1).take(flat).reshape(positions.shape)
        out = {name: np.ascontiguousarray(records[name]) for name in records.dtype.names or ()}
        for name in self._large:
            field = self.stored[name]
            if name.startswith("frames/"):
                frames = self._large[name].reshape(-1, field.nbytes // field.dtype.itemsize)
                taken = frames.take(self._frames(name, streams, starts, positions), axis=0)
                out[name.replace("frames/", "obs/", 1)] = taken.reshape(self._stacked(name, positions.shape))
            else:
                out[name] = np.empty((*positions.shape, *field.shape), field.dtype)
                self._copy(name, streams, starts, out[name])
        if self._files is not None:
            places = len(starts) * (1 + len(self._large))
            self._files.touch(sum(array.nbytes for array in out.values()), places=places)
        return {name: torch.from_numpy(array) for name, array in out.items()}

    def _copy(self, name: str, streams: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
        """Copy the rows from each start into ``out [B, T, …]``, as slices."""
        data, ring, length = self._large[name], self.ring[name], out.shape[1]
        for i, (stream, start) in enumerate(zip(streams.tolist(), (starts % ring).tolist(), strict=True)):
            head = min(length, ring - start)
            out[i, :head] = data[stream, start : start + head]
            out[i, head:] = data[stream, : length - head]


class TensorTier(Tier):
    """Rows in tensors of a device, where the batches are made, too."""

    def __init__(
        self, stored: Mapping[str, Field], stacks: Mapping[str, int], *, device: torch.device, **sizes: int
    ) -> None:
        super().__init__(stored, stacks, **sizes)
        self.device = device
        self.flags = {name: np.zeros((self.streams, self.rows), np.bool_) for name in FLAGS}
        self._tensors = {
            name: torch.zeros(
                (self.streams * self.ring[name], *field.shape), dtype=_torch(_kept(field.dtype)), device=device
            )
            for name, field in stored.items()
            if name not in FLAGS
        }

    def _rings(self, name: str) -> Tensor:
        return self._tensors[name].view(self.streams, self.ring[name], *self.stored[name].shape)

    def _store(self, name: str, where: slice, values: np.ndarray) -> None:
        if name in FLAGS:
            self.flags[name][:, where] = values
        else:
            self._rings(name)[:, where] = torch.from_numpy(np.array(values).view(_kept(values.dtype))).to(self.device)

    def _load(self, name: str, where: slice) -> np.ndarray:
        if name in FLAGS:
            return self.flags[name][:, where]
        return as_numpy(self._rings(name)[:, where]).view(self.stored[name].dtype)

    def put(self, name: str, streams: np.ndarray, rows: np.ndarray, values: Tensor, live: np.ndarray) -> None:
        """Replace single rows of a column."""
        into, where = self._tensors[name], np.flatnonzero(live)
        flat = (streams * self.ring[name] + rows % self.ring[name]).reshape(-1)[where]
        # A device does not say which of two values for one row it takes; arrays take the last.
        flat, last = np.unique(flat[::-1], return_index=True)
        taken = self._send(where[::-1][last])
        new = values.detach().to(self.device).flatten(0, 1).index_select(0, taken)
        into.index_copy_(0, self._send(flat), new.to(_torch(self.stored[name].dtype)).view(into.dtype))

    def gather(self, streams: np.ndarray, starts: np.ndarray, length: int) -> dict[str, Tensor]:
        """Return ``length`` rows from each start, ``[B, T, …]`` by column; ``obs/NAME`` for stacks."""
        positions = (starts[:, None] + np.arange(length)) % self.rows
        flat = streams[:, None] * self.rows + positions
        where, out = self._send(flat.ravel()), {}
        for name, field in self.stored.items():
            if name in FLAGS:
                out[name] = self._send(self.flags[name].reshape(-1)[flat])
            elif name.startswith("frames/"):
                at = self._send(self._frames(name, streams, starts, positions))
                taken = self._tensors[name].index_select(0, at).view(self._stacked(name, flat.shape))
                out[name.replace("frames/", "obs/", 1)] = taken.view(_torch(field.dtype))
            else:
                taken = self._tensors[name].index_select(0, where).view(*flat.shape, *field.shape)
                out[name] = taken.view(_torch(field.dtype))
        return out

    def _send(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)


def _kept(dtype: np.dtype) -> np.dtype:
    """The dtype of the same bytes that torch can select from: it cannot from wide unsigned numbers."""
    return np.dtype(f"i{dtype.itemsize}") if dtype.kind == "u" and dtype.itemsize > 1 else dtype


def _torch(dtype: np.dtype) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype


def as_numpy(value: Tensor) -> np.ndarray:
    """Return a tensor as an array; bfloat16, which numpy has not, as float32."""
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
