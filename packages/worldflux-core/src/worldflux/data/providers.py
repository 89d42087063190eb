"""Anything that gives batches: the protocols, and one door that takes all of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, default_collate

from worldflux.core.batch import Batch
from worldflux.core.errors import BufferError, ConfigurationError
from worldflux.words.counts import counted

from .draws import Draws
from .storage import generator_state, whole

_NO_TENSORS = ("layouts", "strict_layout")


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
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ConfigurationError(f"{name} must be a whole number of at least 1, got {value!r}")
            object.__setattr__(self, name, int(value))
        try:
            torch.device(self.device)
        except (RuntimeError, TypeError) as error:
            raise ConfigurationError(f"device is {self.device!r}, expected such as 'cpu' or 'cuda:0'") from error


def check_request(request: object) -> BatchRequest:
    """Return ``request``. Raises ConfigurationError if it is something else, such as a bare number."""
    if isinstance(request, BatchRequest):
        return request
    size = request if isinstance(request, int) and not isinstance(request, bool) and request > 0 else "batch_size"
    raise ConfigurationError(
        f"sample was given {request!r}, expected a request: sample(BatchRequest({size}, seq_len)), from worldflux.data"
    )


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

    Accepts a provider of either protocol (V2 if ``sample`` takes exactly one argument), a ``Dataset`` of recorded
    episodes (windows of the requested length inside one, drawn with ``seed``), a map-style torch ``Dataset``
    of single sequences (drawn uniformly with ``seed`` and stacked), one ``Batch`` or mapping of fields (given again
    and again), or an iterable of them (already batched, so the request's sizes do not apply; begun anew when it ends).

    Raises:
        ConfigurationError: ``data`` is none of these.
    """
    sample, windows = getattr(data, "sample", None), getattr(data, "windows", None)
    if callable(sample):
        return data if _takes_one_argument(sample) else _FromV1(data)
    if callable(windows):  # a Dataset of recorded episodes
        drawn: BatchProviderV2 = windows(seed=seed)
        return drawn
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
    """Return a ``Batch`` from one, or from a mapping of its fields.

    Fields are tensors, numpy arrays of any byte order and strides, nested lists of numbers, or mappings of them.
    Arrays keep their dtype, and their memory where torch can read it; lists get the dtype ``torch.tensor`` gives them.

    Raises:
        ConfigurationError: ``item`` or one of its fields is something else; the message names the field.
    """
    if not isinstance(item, (Batch, Mapping)):
        raise ConfigurationError(f"expected a Batch or a mapping of its fields, got {type(item).__name__}")
    given = item.to_dict() if isinstance(item, Batch) else item
    converted = {name: _tensors(name, value) for name, value in given.items() if name not in _NO_TENSORS}
    if not isinstance(item, Batch):
        return Batch.from_dict({**item, **converted})
    changed = {name: value for name, value in converted.items() if value is not given[name]}
    return replace(item, **changed) if changed else item


def _tensors(name: str, value: Any) -> Any:
    """Return the arrays and lists of numbers in a field as tensors, and the value itself if there are none."""
    first = value
    while isinstance(first, (list, tuple)) and first:
        first = first[0]
    if isinstance(value, Mapping):
        children = {key: _tensors(f"{name}.{key}", child) for key, child in value.items()}
        return children if any(children[key] is not value[key] for key in value) else value
    numbers = isinstance(first, (np.ndarray, np.generic))
    if not numbers and (value is first or not isinstance(first, (torch.Tensor, bool, int, float, complex))):
        return value
    try:
        if isinstance(first, torch.Tensor):
            return torch.stack([_tensors(name, one) for one in value])
        return _from_numpy(np.asarray(value)) if numbers else torch.tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        what = f"a {value.dtype} array" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        raise ConfigurationError(
            f"{name!r} is {what} that makes no tensor ({error}): expected a tensor, an array or nested lists of numbers"
        ) from error


def _from_numpy(array: np.ndarray) -> torch.Tensor:
    if array.dtype.kind not in "biufc":
        raise TypeError(f"no numbers, but {array.dtype}")
    plain = array.flags.writeable and array.dtype.isnative
    if not plain or any(stride < 0 or stride % array.itemsize for stride in array.strides):
        array = array.astype(array.dtype.newbyteorder("="), order="C")  # a copy, which torch can share
    return torch.from_numpy(array)


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
        size, length, device = (request := check_request(request)).batch_size, request.seq_len, request.device
        return as_batch(self._data.sample(batch_size=size, seq_len=length, device=device)).to(device)


class _FromDataset:
    source_kind = "Dataset"

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self._dataset, self._draws = dataset, Draws(seed)

    def sample(self, request: BatchRequest) -> Batch:
        request = check_request(request)
        size = len(self._dataset)  # type: ignore[arg-type]
        if not size:
            raise BufferError("the dataset is empty")
        self._draws.settle()
        drawn = self._draws.generator.integers(size, size=request.batch_size)
        items = [as_batch(self._dataset[int(i)]).to_dict() for i in drawn]
        try:
            stacked = default_collate([{k: v for k, v in item.items() if k not in _NO_TENSORS} for item in items])
        except (KeyError, TypeError, RuntimeError) as error:
            raise ConfigurationError(
                f"the dataset's sequences do not stack to a batch ({error}): give all the same fields and shapes"
            ) from error
        return as_batch({**items[0], **stacked}).to(request.device)

    def state_dict(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the state of the draw, so that a resumed run goes on with the same items."""
        return {}, {"rng": self._draws.state}

    def load_state_dict(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._draws.state = generator_state(meta.get("rng"), "dataset")


class _FromIterable:
    source_kind = "iterable"

    def __init__(self, data: Iterable[Any], seed: int) -> None:
        self._data, self._seed, self._given, self._passes = data, seed, 0, 0
        self._iterator: Iterator[Any] = iter(())

    def sample(self, request: BatchRequest) -> Batch:
        device = check_request(request).device
        return as_batch(self._next()).to(device)

    def _next(self) -> Any:
        item = next(self._iterator, None)
        if item is None:
            if isinstance(self._data, Iterator) and self._passes:
                raise BufferError(
                    f"the iterator ended after {counted(self._given, 'batch', 'batches')} and cannot begin anew: "
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
        given = whole(meta, "given", what="iterable")
        while self._given < given:
            self._next()
