"""Which row of a table is which step of which episode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...recording import DatasetError, damaged
from ..common.tables import numbers
from .files import ParquetFiles


class Order:
    """The rows of a table sorted by episode and step; all arrays but ``sorted_rows`` are in the table's own order.

    ``code`` tells which episode (by its place in ``ids``), ``group`` and ``at`` in which group of rows a row lies, and
    where there. Raises DatasetError, naming file, episode and row, for steps that are missing or stand twice.
    """

    def __init__(
        self, path: Path, table: ParquetFiles, episode: str | None, step: str | None, remarks: list[str]
    ) -> None:
        assert episode is not None
        self.path, self.episode, self.step, self._table = path, episode, step, table
        self._ends = np.cumsum(table.counts)
        if not self._ends[-1]:
            raise DatasetError(f"{path}: the table has no rows")
        names = self._key(episode)
        rows = [rows for _, _, rows in table.groups]
        self.group = np.repeat(np.arange(len(rows), dtype=np.int32), rows)
        self.at = np.concatenate([np.arange(n) for n in rows])
        values, self.code = np.unique(names, return_inverse=True)
        self.ids = [str(value) for value in values]
        self.steps = self._key(step) if step is not None else np.zeros(len(names), np.int64)
        if self.steps.dtype.kind not in "iu":
            raise DatasetError(
                f"{path}: the steps in {step!r} are {self.steps.dtype}, expected whole numbers; step= says"
            )
        if step is None:
            self.steps = self._counted()
            remarks.append("no column tells the step: the rows are read in the order in which they stand")
        self.sorted_rows = np.lexsort((self.steps, self.code))
        self.lengths = np.bincount(self.code, minlength=len(self.ids))
        self._offsets = np.cumsum(self.lengths) - self.lengths
        self._check_steps()
        self.first = self.sorted_rows[self._offsets]
        self.is_first, self.is_last, self.is_next_to_last = (np.zeros(len(names), bool) for _ in range(3))
        self.is_first[self.first] = True
        ends = self._offsets + self.lengths - 1
        self.is_last[self.sorted_rows[ends]] = True
        self.is_next_to_last[self.sorted_rows[ends[self.lengths > 1] - 1]] = True

    def place(self, row: int) -> dict[str, Any]:
        """Return the file, the episode and the step of a row of the table, for an error."""
        file = self._table.files[int(np.searchsorted(self._ends, row, side="right"))]
        return {"file": file, "episode": self.ids[self.code[row]], "row": int(self.steps[row])}

    def _key(self, name: str) -> np.ndarray:
        """A column of numbers or text, none of them null."""
        form, arrays = self._table.kinds[name].form, self._table.column(name)
        if form not in ("number", "text"):
            raise DatasetError(f"{self.path}: column {name!r} tells no rows apart: it holds {form}")
        parts = []
        for file, array in zip(self._table.files, arrays):
            if array.null_count:
                raise damaged(file, f"{name} is null in row {int(np.argmin(np.asarray(array.is_valid())))} of the file")
            if form == "text":
                parts.append(np.asarray(array.to_pylist(), np.str_))
            else:
                parts.append(numbers(array, lambda row, what: DatasetError(what))[0])
        values = np.concatenate(parts)
        if values.dtype.kind == "f":
            raise DatasetError(f"{self.path}: column {name!r} holds {values.dtype}, expected whole numbers or text")
        return values

    def _counted(self) -> np.ndarray:
        """Steps by the order of the rows, which must keep episodes together."""
        change = np.append(True, self.code[1:] != self.code[:-1])
        begun = self.code[change]
        if len(np.unique(begun)) != len(begun):
            again = next(i for i in range(len(begun)) if begun[i] in begun[:i])
            raise DatasetError(
                f"{self.path}: the rows of episode {self.ids[begun[again]]} stand in several places and no column "
                "tells the step: name it, as in step='t'"
            )
        starts = np.flatnonzero(change)
        return np.arange(len(self.code)) - np.repeat(starts, np.diff(np.append(starts, len(self.code))))

    def _check_steps(self) -> None:
        code, steps = self.code[self.sorted_rows], self.steps[self.sorted_rows].astype(np.int64)
        start = int(steps[self._offsets].min())
        expected = start + np.arange(len(steps)) - self._offsets[code]
        wrong = np.flatnonzero(steps != expected)
        if not wrong.size:
            return
        at = int(wrong[0])
        row = int(self.sorted_rows[at])
        if at and code[at - 1] == code[at] and steps[at - 1] == steps[at]:
            raise damaged(**self.place(row), what=f"step {steps[at]} stands twice")
        place = self.place(row) | {"row": int(expected[at])}
        raise damaged(**place, what=f"there is no step {expected[at]}, the next is {steps[at]}")
