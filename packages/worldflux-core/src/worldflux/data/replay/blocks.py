"""The rows of a replay in a checkpoint: blocks that are written once and then referred to.

A block is a stretch of rows of all streams. It is sealed once a later row stands, from when on only its latents may
still change: these are a block of their own, which is written anew where ``update`` wrote into it. The newest rows, not
sealed yet, are written with every checkpoint, and so is what is left of the oldest block while it is overwritten. A
block is called after its content, so that equal replays have equal checkpoints.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from worldflux.core.errors import CheckpointError
from worldflux.files import sha256

from ..npy import map_npy
from .layout import Field, row_bytes
from .tiers import Tier

BLOCK_BYTES = 16 << 20  # of a block's rows over all streams
_ALIGNED = 64  # each column of a block begins at a multiple
_NAME = re.compile(r"[0-9a-f]{32}")
Columns = dict[str, np.ndarray]
Described = Mapping[str, Any]  # a file's size and SHA-256, as a checkpoint's manifest has them


class BlockFolder:
    """The folder of a checkpoint's blocks. Those of the checkpoint ``before`` are taken over where they are asked for.

    ``known`` describes the files of ``before`` that were whole when they were last read; ``carried`` those taken over.
    """

    def __init__(self, folder: Path, before: Path | None = None, known: Mapping[str, Described] | None = None) -> None:
        self.folder, self.carried = folder, {}  # type: ignore[var-annotated]
        self._before, self._known = before, dict(known or {})

    def take(self, name: str) -> bool:
        """Have a block of the checkpoint before here, too: the same file, or a copy. False if it is not whole."""
        file, described = f"{name}.npy", self._known.get(f"{name}.npy")
        if file in self.carried:
            return True
        if self._before is None or described is None:
            return False
        source, target = self._before / file, self.folder / file
        try:
            if source.is_symlink() or source.stat().st_size != described["bytes"]:
                return False
            self.folder.mkdir(parents=True, exist_ok=True)
            if _linked(source, target):
                self.carried[file] = described
                return True
            shutil.copyfile(source, target)
            if sha256(target) == described["sha256"]:  # and it is synced and described like any new file
                return True
        except OSError:
            pass
        target.unlink(missing_ok=True)
        return False

    def write(self, columns: Mapping[str, np.ndarray]) -> str:
        """Write a block, if it is not there, and return its name. Raises OSError."""
        data = _packed(columns)
        name = hashlib.sha256(data.data).hexdigest()[:32]
        if not self.take(name) and not (target := self.folder / f"{name}.npy").exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                np.save(file, data, allow_pickle=False)
        return name

    def read(self, name: str, fields: Mapping[str, Field], *, streams: int, rows: int) -> Columns:
        """Return the columns ``[streams, rows, …]`` of a block, views of the file.

        Raises CheckpointError if it is missing, or has not the size of such a block.
        """
        data = map_npy(self.folder / f"{name}.npy", name)
        places, size = _places({key: (streams, rows, *field.shape) for key, field in fields.items()}, fields)
        if data.dtype != np.uint8 or data.shape != (size,):
            raise CheckpointError(f"{self.folder / name}.npy is {data.dtype}{data.shape}, expected uint8({size},)")
        columns = {key: _view(data, at, shape, fields[key].dtype) for key, (at, shape) in places.items()}
        for key, column in columns.items():
            if column.dtype == bool and column.size and column.view(np.uint8).max() > 1:
                raise CheckpointError(f"{self.folder / name}.npy: {key!r} is neither True nor False somewhere")
        return columns


def _linked(source: Path, target: Path) -> bool:
    """Have a file under another name, too. False where that is another disk, or one that knows no links."""
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


class Block(NamedTuple):
    """Rows ``first`` to ``stop`` of all streams, under the name of their file."""

    first: int
    stop: int
    name: str


class Blocks:
    """Which rows of a replay were written under which names, and which must be written anew."""

    def __init__(self, tier: Tier) -> None:
        latents = {name: field for name, field in tier.stored.items() if name.startswith("latent/")}
        fixed = {name: field for name, field in tier.stored.items() if name not in latents}
        self.size = max(1, BLOCK_BYTES // (row_bytes(tier.stored) * tier.streams))  # rows of a block
        self._tier = tier
        self._columns = {"rows": fixed, **({"latents": latents} if latents else {})}
        self._sealed: dict[str, dict[int, Block]] = {kind: {} for kind in self._columns}

    def changed(self, rows: np.ndarray) -> None:
        """Take note that latents of these rows were replaced."""
        for number in np.unique(rows // self.size).tolist():
            self._sealed["latents"].pop(number, None)

    def save(self, folder: BlockFolder, *, oldest: int, stop: int) -> dict[str, Any]:
        """Have rows ``oldest`` to ``stop`` in a folder, and return the page that ``read`` takes. Raises OSError."""
        numbers = range(oldest // self.size, -(-stop // self.size))
        page: dict[str, Any] = {"size": self.size}
        for kind, fields in self._columns.items():
            known, blocks = self._sealed[kind], {}
            for number in numbers:
                first, end = max(oldest, number * self.size), min(stop, (number + 1) * self.size)
                block = known.get(number)
                if block is None or block.first != first or not folder.take(block.name):
                    columns = {name: self._tier.read(name, first, end) for name in fields}
                    block = Block(first, end, folder.write(columns))
                blocks[number] = block
            self._sealed[kind] = {number: block for number, block in blocks.items() if self._seals(number, stop)}
            page[kind] = [list(block) for block in blocks.values()]
        return page

    def _seals(self, number: int, stop: int) -> bool:
        """Whether a block's rows are final: the newest row of all may still become the last of its episode."""
        return (number + 1) * self.size < stop

    def adopt(self, page: Mapping[str, Any] | None, *, stop: int) -> None:
        """Go on with the rows that were loaded from a page, or without one: its sealed blocks are not written again."""
        self._sealed = {kind: {} for kind in self._columns}
        if page is None or page["size"] != self.size:  # another version's
            return
        for kind in self._columns:
            blocks = {block[0] // self.size: Block(*block) for block in page[kind]}
            self._sealed[kind] = {
                number: block
                for number, block in blocks.items()
                if block.stop == (number + 1) * self.size and self._seals(number, stop)
            }

    def read(self, folder: BlockFolder, page: Any, *, oldest: int, stop: int) -> Iterator[tuple[int, Columns]]:
        """Give the rows ``oldest`` to ``stop`` that a page names, block by block: the first row, and the columns.

        Raises CheckpointError where the page or a block is damaged.
        """
        for kind, fields in self._columns.items():
            for block in _checked(page, kind, oldest=oldest, stop=stop):
                rows = block.stop - block.first
                yield block.first, folder.read(block.name, fields, streams=self._tier.streams, rows=rows)


def _checked(page: Any, kind: str, *, oldest: int, stop: int) -> list[Block]:
    """The blocks of a page, one after the other. Raises CheckpointError."""
    try:
        blocks = [Block(*block) for block in page[kind]]
        whole = type(page["size"]) is int and page["size"] > 0
        for block in blocks:
            whole = whole and type(block.first) is type(block.stop) is int and block.first < block.stop
            whole = whole and _NAME.fullmatch(block.name) is not None
        ends = [(oldest, oldest), *((block.first, block.stop) for block in blocks), (stop, stop)]
        whole = whole and all(before == first for (_, before), (first, _) in itertools.pairwise(ends))
    except (TypeError, KeyError):
        whole = False
    if not whole:
        raise CheckpointError(f"saved replay: its blocks of {kind} do not hold rows {oldest} to {stop}: {page!r:.200}")
    return blocks


def _places(
    shapes: Mapping[str, tuple[int, ...]], fields: Mapping[str, Field]
) -> tuple[dict[str, tuple[int, tuple[int, ...]]], int]:
    """Where each column of a block begins, with its shape, and the bytes of all."""
    places, at = {}, 0
    for name in sorted(shapes):
        places[name] = (at, shapes[name])
        at += -(-math.prod(shapes[name]) * fields[name].dtype.itemsize // _ALIGNED) * _ALIGNED
    return places, at


def _view(data: np.ndarray, at: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return data[at : at + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)


def _packed(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """The columns one after the other, as bytes."""
    fields = {name: Field(column.shape, column.dtype) for name, column in columns.items()}
    places, size = _places({name: column.shape for name, column in columns.items()}, fields)
    data = np.zeros(size, np.uint8)
    for name, (at, shape) in places.items():
        _view(data, at, shape, columns[name].dtype)[...] = columns[name]
    return data
