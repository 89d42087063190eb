"""Which tier a replay is kept in, what it takes there, and that said before it is taken."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from worldflux.core.errors import ConfigurationError
from worldflux.files import expanded

from ..memory import in_bytes, memory
from .layout import Field, row_bytes, storage_bytes
from .mapped import MappedFiles, has_room
from .tiers import ArrayTier, TensorTier, Tier

_LOG = logging.getLogger(__name__)
STORAGES = ("auto", "ram", "mmap", "cuda")
MOST = 0.8  # of the memory there is


def make_tier(
    storage: str,
    directory: str | Path | None,
    stored: Mapping[str, Field],
    stacks: Mapping[str, int],
    *,
    streams: int,
    rows: int,
) -> Tier:
    """Return the tier for ``rows`` rows of each stream; what it takes, and where, is logged first.

    Raises ConfigurationError where there is no such storage, or no room in it.
    """
    total = storage_bytes(stored, stacks, rows=rows, streams=streams)
    _LOG.info(
        "replay: %s rows of %s bytes = %s when full", f"{streams * rows:,}", f"{row_bytes(stored):,}", in_bytes(total)
    )
    if re.fullmatch(r"cuda(:\d+)?", storage):
        return _on_device(device_of(storage), total, stored, stacks, streams=streams, rows=rows)
    place = expanded(tempfile.gettempdir() if directory is None else directory)
    if chosen(storage, total, place) == "ram":
        return ArrayTier(stored, stacks, streams=streams, rows=rows)
    _LOG.info("replay: kept on disk, in %s, and read from there through the system's cache", place)
    return ArrayTier(stored, stacks, files=MappedFiles(place), streams=streams, rows=rows)


def check_storage(storage: object, *, name: str = "storage") -> None:
    """Raise ConfigurationError for a storage that does not exist."""
    if not isinstance(storage, str) or not (storage in STORAGES or re.fullmatch(r"cuda:\d+", storage)):
        raise ConfigurationError(
            f"{name} is {storage!r}, expected 'ram', 'mmap', 'cuda' (or 'cuda:1'), or 'auto', which takes memory as "
            "long as there is enough"
        )


def chosen(storage: str, total: int, place: Path) -> str:
    """Return "ram" or "mmap"; what speaks against it is said."""
    most = memory()
    if storage == "mmap" or total <= MOST * most:
        return "mmap" if storage == "mmap" else "ram"
    there = f"replay: {in_bytes(total)} when full, but there are {in_bytes(most)} of memory"
    if storage == "auto" and has_room(place, total):
        _LOG.warning("%s: it is kept in files in %s (storage='mmap')", there, place)
        return "mmap"
    _LOG.warning("%s: lower the capacity, or keep it on a disk with room for it (storage='mmap', directory=)", there)
    return "ram"


def device_of(storage: str) -> torch.device:
    """Return the device a storage names. Raises ConfigurationError if it is not there."""
    if not torch.cuda.is_available():
        raise ConfigurationError(f"storage={storage!r}, but torch finds no CUDA device: use 'ram' or 'mmap'")
    return torch.device(storage)


def _on_device(
    device: torch.device,
    total: int,
    stored: Mapping[str, Field],
    stacks: Mapping[str, int],
    *,
    streams: int,
    rows: int,
) -> Tier:
    try:
        return TensorTier(stored, stacks, device=device, streams=streams, rows=rows)
    except torch.OutOfMemoryError as error:
        raise ConfigurationError(
            f"storage={str(device)!r}: the replay's {in_bytes(total)} do not fit there beside what there is: lower the "
            "capacity, or use 'ram' or 'mmap'"
        ) from error
