"""Images in compressed blocks of rows, decoded in threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from worldflux.core.errors import ConfigurationError

from ..extra import need

BLOCK = 64  # rows: small enough for a window to waste little, large enough to compress
LEVEL = 3
T = TypeVar("T")
R = TypeVar("R")


def has_zstd() -> bool:
    """Whether blocks can be made and read here."""
    try:
        need("zstandard", "images in zstd blocks")
    except ConfigurationError:
        return False
    return True


def packed(rows: bytes) -> bytes:
    """Return a block of rows, compressed."""
    return bytes(need("zstandard", "images in zstd blocks").ZstdCompressor(level=LEVEL).compress(rows))


def unpacked(block: bytes, size: int) -> bytes:
    """Return the ``size`` bytes of a block. Raises ValueError if it is damaged or holds another number of them."""
    zstd = need("zstandard", "images in zstd blocks")
    try:
        header = zstd.get_frame_parameters(block)
        if header.content_size != size:
            raise ValueError(f"a block says that it unpacks to {header.content_size} bytes, expected {size}")
        data = zstd.ZstdDecompressor().decompress(block, max_output_size=size)
    except zstd.ZstdError as error:
        raise ValueError(f"a block does not unpack: {error}") from error
    if len(data) != size:
        raise ValueError(f"a block unpacks to {len(data)} bytes, expected {size}")
    return bytes(data)


class Threads:
    """A few threads, begun when they are first needed, in each process anew: a fork has none, a pickle takes none."""

    def __init__(self) -> None:
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def map(self, call: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Return ``call`` of each item, in order. Raises what the first one that fails raises."""
        items = list(items)
        if len(items) < 2:
            return [call(item) for item in items]
        if self._pool is None or self._pool[0] != os.getpid():
            self._pool = os.getpid(), ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1)), "worldflux-data")
        return list(self._pool[1].map(call, items))

    def close(self) -> None:
        """End the threads of this process."""
        if self._pool is not None and self._pool[0] == os.getpid():
            self._pool[1].shutdown()
        self._pool = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_pool": None}
