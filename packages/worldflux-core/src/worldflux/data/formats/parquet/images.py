"""Images in a table: PNG or JPEG bytes, or nested lists; decoded when their rows are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worldflux.core.errors import WorldFluxError
from worldflux.envs.spaces import image_layout

from ...npz import short
from ...recording import DatasetError, damaged
from ..common.blocks import ArrayBlock, Block
from ..common.images import as_images, decoded
from ..common.npz_files import CHECKED_AT_OPEN
from ..common.tables import numbers
from .files import ParquetFiles
from .order import Order


@dataclass(frozen=True)
class _Encoded:
    """Pictures of one group of rows as they are stored."""

    array: Any
    shape: tuple[int, ...]
    refuse: Callable[[int, str], DatasetError]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return int(self.array.nbytes)

    def rows(self, at: np.ndarray) -> np.ndarray:
        """Return some of the pictures, decoded."""
        return as_images(np.stack([picture(self.array, int(row), self.refuse, self.shape) for row in at]), self.shape)


def picture(
    array: Any, row: int, refuse: Callable[[int, str], DatasetError], shape: Sequence[int] | None
) -> np.ndarray:
    """Return one encoded picture, ``[H, W, C]`` or ``[H, W]``."""
    held = array[row].as_py()
    data = held.get("bytes") if isinstance(held, dict) else held
    if data is None:
        elsewhere = isinstance(held, dict) and held.get("path")
        raise refuse(row, f"is kept in another file, {elsewhere}, which is not read" if elsewhere else "is null")
    try:
        return decoded(data, shape)
    except WorldFluxError:
        raise
    except Exception as error:  # what damaged pictures raise can be anything
        raise refuse(row, f"is no picture that can be read: {short(error)}") from error


class ImageColumns:
    """The columns of a table that hold images; ``shapes`` by their names as observations, ``[C, H, W]``."""

    def __init__(self, table: ParquetFiles, order: Order, columns: Sequence[str], called: Mapping[str, str]) -> None:
        self._table, self._order = table, order
        self._stored = {f"obs/{called[name]}": name for name in columns}
        self._rows = np.cumsum([0, *(rows for _, _, rows in table.groups)])
        self._shapes: dict[str, tuple[int, ...]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        group = next((i for i, (_, _, rows) in enumerate(table.groups) if rows), 0)
        for name in columns:
            array, refuse = table.group(name, group), self._refuse(name, group)
            if table.kinds[name].form == "nested":
                shape = numbers(array, refuse)[0].shape[1:]
            else:
                shape = picture(array, 0, refuse, None).shape
            if not all(shape) or len(shape) not in (2, 3):
                raise refuse(0, f"is an image of the shape {list(shape)}")
            self._shapes[name], self.shapes[called[name]] = shape, image_layout(shape)[0]
        self._check()

    def load(self, name: str, group: int) -> Block:
        """Return the images of one group of rows. Raises DatasetError."""
        stored = self._stored[name]
        array, refuse = self._table.group(stored, group), self._refuse(stored, group)
        shape = self._shapes[stored]
        if self._table.kinds[stored].form == "encoded":
            return _Encoded(array, shape, refuse)
        values, there = numbers(array, refuse, shape)
        if not there.all():
            raise refuse(int(np.argmin(there)), "is null")
        return ArrayBlock(as_images(values, shape))

    def _refuse(self, name: str, group: int) -> Callable[[int, str], DatasetError]:
        first = int(self._rows[group])
        return lambda row, what: damaged(**self._order.place(first + row), what=f"{name} {what}")

    def _check(self) -> None:
        """Look at every image of a small table; of a larger one each is looked at when it is read."""
        if self._table.nbytes > CHECKED_AT_OPEN:
            return
        for name in self._stored:
            for group, (_, _, rows) in enumerate(self._table.groups):
                block = self.load(name, group)
                for start in range(0, rows, 64):
                    block.rows(np.arange(start, min(start + 64, rows)))
