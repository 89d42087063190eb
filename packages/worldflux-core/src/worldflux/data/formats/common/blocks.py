"""Images that stay in their files: read block by block as they are asked for, the last ones kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from .kept import Kept


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


@dataclass(frozen=True)
class BlockRows:
    """A column of images ``shape`` = ``(C, H, W)`` that is read block by block, a source of a ``LazyRecording``.

    Row i of the recording is row ``place[i]`` of block ``block[i]``; ``offsets`` are the episodes' first rows.
    ``load(name, block)`` reads a block, and raises DatasetError for a damaged one.
    """

    name: str
    shape: tuple[int, ...]
    load: Callable[[str, int], Block]
    block: np.ndarray
    place: np.ndarray
    offsets: np.ndarray
    kept: Kept

    def rows(self, episode: int, rows: np.ndarray) -> np.ndarray:
        """Return rows of an episode, ``[n, C, H, W]``. Raises DatasetError."""
        at = int(self.offsets[episode]) + rows
        blocks, places = self.block[at], self.place[at]
        out = np.empty((len(at), *self.shape), np.uint8)
        for block in np.unique(blocks).tolist():
            here = blocks == block
            out[here] = self.kept.get((self.name, block), partial(self.load, self.name, block)).rows(places[here])
        return out

    def close(self) -> None:
        """Forget the blocks that are kept."""
        self.kept.clear()
