"""Anything that gives batches: the protocols, and one door that takes all of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, default_collate

from worldflux.core.batch import Batch
from worldflux.core.errors import BufferError, ConfigurationError


@dataclass(frozen=True)
class BatchRequest:
    """How much to sample: ``batch_size`` sequences of ``seq_len`` rows (None: the source's own), on ``device``."""

    batch_size: int
    seq_len: int | None = None
    device: str | torch.device = "cpu"

    def __post_init__(self) -> None:
        for name, value in (("batch_size", self.batch_size), ("seq_len", self.seq_len)):
            if value is None and name == "seq_len":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"{name} must be a whole number of at least 1, got {value!r}")


@runtime_checkable
class BatchProvider(Protocol):
    """The earlier protocol: three arguments."""

    def sample(self, batch_size: int, seq_len: int | None = None, device: str | torch.device = "cpu") -> Batch: ...


@runtime_checkable
class BatchProviderV2(Protocol):
    """The protocol: one request."""

    def sample(self, request: BatchRequest) -> Batch: ...


def as_provider(data: Any, *, seed: int = 0) -> BatchProviderV2:
    """Return ``data`` as a provider.

    Accepts a provider of either protocol (V2 if ``sample`` takes exactly one argument), a map-style torch ``Dataset``
    of single sequences (drawn uniformly with ``seed`` and stacked), one ``Batch`` or mapping of fields (given again
    and again), or an iterable of them (already batched, so the request's sizes do not apply; begun anew when it ends).

    Raises:
        ConfigurationError: ``data`` is none of these.
    """
    sample = getattr(data, "sample", None)
    if callable(sample):
        return data if _takes_one_argument(sample) else _FromV1(data)
    if isinstance(data, (Batch, Mapping)):
        return _FromIterable([data], seed)
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        return _FromDataset(data, seed)
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes, torch.Tensor, np.ndarray)):
        return _FromIterable(data, seed)
    raise ConfigurationError(
        f"cannot train on {type(data).__name__}: expected an object with sample(request), a torch Dataset, "
        "or an iterable of Batch or of mappings with its fields (obs, actions, rewards, …)"
    )


def as_batch(item: Any) -> Batch:
    """Return a ``Batch`` from one, or from a mapping of its fields (tensors or numpy arrays)."""
    if isinstance(item, Batch):
        return item
    if isinstance(item, Mapping):
        return Batch.from_dict({name: _tensors(value) for name, value in item.items()})
    raise ConfigurationError(f"expected a Batch or a mapping of its fields, got {type(item).__name__}")


def _tensors(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    return {key: _tensors(child) for key, child in value.items()} if isinstance(value, Mapping) else value


def _takes_one_argument(sample: Callable[..., Any]) -> bool:
    return len(inspect.signature(sample).parameters) == 1


class _Wrapped:
    """Looks like what it wraps: ``update``, ``metrics`` and the like are the wrapped object's, where it has them."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._data, name)


class _FromV1(_Wrapped):
    @property
    def source_kind(self) -> str:
        return type(self._data).__name__

    def sample(self, request: BatchRequest) -> Batch:
        batch = self._data.sample(batch_size=request.batch_size, seq_len=request.seq_len, device=request.device)
        return as_batch(batch).to(request.device)


class _FromDataset:
    source_kind = "Dataset"

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self._dataset, self._rng = dataset, np.random.default_rng(seed)

    def sample(self, request: BatchRequest) -> Batch:
        size = len(self._dataset)  # type: ignore[arg-type]
        if not size:
            raise BufferError("the dataset is empty")
        items = [self._dataset[int(i)] for i in self._rng.integers(size, size=request.batch_size)]
        fields = [item.to_dict() if isinstance(item, Batch) else item for item in items]
        return as_batch(default_collate(fields)).to(request.device)

    def state_dict(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the state of the draw, so that a resumed run goes on with the same items."""
        return {}, {"rng": self._rng.bit_generator.state}

    def load_state_dict(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._rng.bit_generator.state = meta["rng"]


class _FromIterable:
    source_kind = "iterable"

    def __init__(self, data: Iterable[Any], seed: int) -> None:
        self._data, self._seed, self._given, self._passes = data, seed, 0, 0
        self._iterator: Iterator[Any] = iter(())

    def sample(self, request: BatchRequest) -> Batch:
        return as_batch(self._next()).to(request.device)

    def _next(self) -> Any:
        item = next(self._iterator, None)
        if item is None:
            if isinstance(self._data, Iterator) and self._passes:
                raise BufferError(
                    f"the iterator ended after {self._given} batches and cannot begin anew: "
                    "pass a list, a DataLoader or another object whose iter() starts over"
                )
            self._iterator = self._pass()
            item = next(self._iterator, None)
            if item is None:
                raise BufferError("the iterable gave no batch")
        self._given += 1
        return item

    def _pass(self) -> Iterator[Any]:
        """The batches of one pass. A DataLoader shuffles by torch's global generator as it begins: by our seed here."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed + self._passes)
            iterator = iter(self._data)
            first = next(iterator, None)
        self._passes += 1
        return iter(()) if first is None else chain([first], iterator)

    def state_dict(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return how many batches were given."""
        return {}, {"given": self._given}

    def load_state_dict(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Skip the batches that were given before."""
        while self._given < meta["given"]:
            self._next()
