"""One sealed shard: its columns written once, in a stage that becomes the shard by its name, and read in place."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from worldflux.core.spec import ModalitySpec
from worldflux.files import sync

from .blocks import BLOCK, packed
from .page import FILE, HASHES, NAME, SHARDS, Column, Shard

Episode = Mapping[str, np.ndarray]


def write_shard(
    folder: Path, number: int, episodes: Sequence[Episode], fields: Mapping[str, ModalitySpec], packs: frozenset[str]
) -> Shard:
    """Write whole episodes as shard ``number`` and return what the page says of it; ``packs`` go in zstd blocks.

    Nobody finds it before the page lists it. Raises OSError; what is left then goes with ``drop_unlisted``.
    """
    name = f"{number:06d}"
    stage, place = folder / SHARDS / f".{name}", folder / SHARDS / name
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    try:
        lengths = [_length(episode) for episode in episodes]
        columns: dict[str, Column] = {}
        files: dict[str, str] = {}
        for i, (column, spec) in enumerate(fields.items()):
            parts = [episode[column] for episode in episodes]
            stem = f"{i:02d}-{re.sub('[^A-Za-z0-9_-]', '_', column)[:100]}"
            if column in packs:
                files |= _write_blocks(stage, stem, parts, spec)
                columns[column] = Column(f"{stem}.zst", "zstd")
            else:
                files |= _write_rows(stage / f"{stem}.npy", parts, np.dtype(spec.dtype), (sum(lengths), *spec.shape))
                columns[column] = Column(f"{stem}.npy")
        checks = np.array([[check(episode[column]) for column in fields] for episode in episodes], np.uint32)
        files |= _write_rows(stage / HASHES, [checks], checks.dtype, checks.shape)
        sync(stage)
        os.rename(stage, place)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    sync(place.parent)
    return Shard(name, sum(lengths), len(episodes), columns, files)


def drop_unlisted(folder: Path, listed: Iterable[str]) -> list[str]:
    """Remove what a killed writer left beside the sealed shards, and return its names. Only for who holds the lock.

    Whatever else lies there is somebody's, and stays.
    """
    keep, shards = set(listed), folder / SHARDS
    there = sorted(shards.iterdir()) if shards.is_dir() else []
    gone = [path for path in there if path.name not in keep and is_shard(path)]
    for path in gone:
        shutil.rmtree(path)
    with contextlib.suppress(OSError):  # it is empty, then, or holds what stays
        shards.rmdir()
    return [path.name for path in gone]


def is_shard(path: Path) -> bool:
    """Whether this is a shard or the stage of one, by its name and those of all files in it."""
    named = NAME.fullmatch(path.name.removeprefix(".")) and path.is_dir() and not path.is_symlink()
    return bool(named) and all(FILE.fullmatch(file.name) and not file.is_dir() for file in path.iterdir())


def check(rows: np.ndarray) -> int:
    """What tells an episode's rows from damaged ones: CRC-32 of their bytes."""
    return zlib.crc32(_bytes(rows))


def _length(episode: Episode) -> int:
    return len(next(iter(episode.values())))


def _write_rows(file: Path, parts: Sequence[np.ndarray], dtype: np.dtype, shape: tuple[int, ...]) -> dict[str, str]:
    head = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, described)
    return _write(file, [head.getvalue(), *(_bytes(part) for part in parts)])


def _write_blocks(stage: Path, stem: str, parts: Sequence[np.ndarray], spec: ModalitySpec) -> dict[str, str]:
    """Write blocks of rows one after the other, and where each begins, ``[blocks + 1]``, beside them."""
    ends = [0]

    def blocks() -> Iterator[bytes]:
        for rows in _blocks(parts, BLOCK * math.prod(spec.shape) * np.dtype(spec.dtype).itemsize):
            yield (block := packed(rows))
            ends.append(ends[-1] + len(block))

    files = _write(stage / f"{stem}.zst", blocks())
    places = np.array(ends, np.int64)
    return files | _write_rows(stage / f"{stem}.npy", [places], places.dtype, places.shape)


def _blocks(parts: Sequence[np.ndarray], size: int) -> Iterator[bytes]:
    rest = bytearray()
    for part in parts:
        rest += _bytes(part)
        for start in range(0, len(rest) - size + 1, size):
            yield bytes(rest[start : start + size])
        del rest[: len(rest) // size * size]
    if rest:
        yield bytes(rest)


def _write(file: Path, chunks: Iterable[bytes | memoryview]) -> dict[str, str]:
    digest = hashlib.sha256()
    with file.open("wb") as handle:
        for chunk in chunks:
            handle.write(chunk)
            digest.update(chunk)
        handle.flush()
        os.fsync(handle.fileno())
    return {file.name: digest.hexdigest()}


def _bytes(rows: np.ndarray) -> memoryview:
    return np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
