"""Images that stay in their files: decoded block by block as they are asked for, the last ones kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..recording import Recording

#: Bytes of blocks that are kept; one is kept whatever its size.
KEPT = 1 << 28


class Block(Protocol):
    """What a file gives in one piece: rows of one column, as stored or decoded."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in memory."""

    def rows(self, at: np.ndarray) -> np.ndarray:
        """Return some of its rows as images ``[n, C, H, W]``. Raises DatasetError."""


@dataclass(frozen=True)
class ArrayBlock:
    """Rows that are images already."""

    images: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.images.nbytes

    def rows(self, at: np.ndarray) -> np.ndarray:
        """Return some of the rows."""
        return self.images[at]


@dataclass
class BlockRecording(Recording):
    """A recording some columns of which are read block by block: row i is row ``row[i]`` of block ``block[i]``.

    ``load(name, block)`` reads one, and raises DatasetError for a damaged one. At most ``KEPT`` bytes of them are kept,
    those used last.
    """

    load: Callable[[str, int], Any] | None = None
    block: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    row: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        super().__post_init__()
        self._kept: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self._lock = threading.Lock()  # windows may be read by several threads, files are not

    def read(self, name: str, episode: int, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Return rows ``start:stop:step`` of a column in one episode, ``[n, ...]``. Raises DatasetError."""
        if name in self.columns:
            return super().read(name, episode, start, stop, step)
        first, last = int(self._offsets[episode]), int(self._offsets[episode] + self.episodes.lengths[episode])
        where = slice(first + start, min(first + stop, last), step)
        blocks, rows = self.block[where], self.row[where]
        spec = self.obs_spec[name.removeprefix("obs/")]
        out = np.empty((len(rows), *spec.shape), spec.dtype)
        for block in np.unique(blocks):
            here = blocks == block
            out[here] = self._get(name, int(block)).rows(rows[here])
        return out

    def close(self) -> None:
        """Forget the blocks that are kept."""
        self._kept.clear()

    def _get(self, name: str, block: int) -> Any:
        assert self.load is not None
        with self._lock:
            if (name, block) in self._kept:
                self._kept.move_to_end((name, block))
            else:
                self._kept[name, block] = self.load(name, block)
                while len(self._kept) > 1 and sum(one.nbytes for one in self._kept.values()) > KEPT:
                    self._kept.popitem(last=False)
            return self._kept[name, block]
