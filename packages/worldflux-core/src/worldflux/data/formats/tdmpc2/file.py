"""One file of TD-MPC2's rows: checked once, then read where it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...recording import DatasetError, damaged
from .torch_files import array_of, load_tensors

_ROWS = 1 << 17  # checked at a time, so that a file larger than memory can be


class TaskFile:
    """The rows of a file in one line, as they stand there: mapped, not loaded.

    ``starts`` and ``lengths`` int64 ``[E]`` give the episodes, ``tasks`` int64 ``[E]``, ``terminal`` bool ``[E]``.
    Raises DatasetError, naming file, episode (its number in the file) and row, for what is no data of TD-MPC2.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        held = load_tensors(file)
        for name in ("obs", "action", "reward"):
            if name not in held:
                raise damaged(file, f"it holds no {name!r}, but {', '.join(held) or 'nothing'}")
        try:
            self._take(held)
        except ValueError as error:
            raise error if isinstance(error, DatasetError) else damaged(file, str(error)) from error
        self._check()

    def _take(self, held: Mapping[str, Any]) -> None:
        self._batch = tuple(held["reward"].shape)
        if len(self._batch) == held["action"].ndim and self._batch[-1] == 1:
            self._batch = self._batch[:-1]
        if held["action"].ndim != len(self._batch) + 1 or len(self._batch) not in (1, 2):
            raise ValueError(
                f"action is {list(held['action'].shape)} and reward {list(held['reward'].shape)}, expected [episodes, "
                "rows, numbers] and [episodes, rows], or [rows, numbers] and [rows] with an 'episode' of each"
            )
        if not np.prod(self._batch):
            raise ValueError(f"it has no rows: reward is {list(held['reward'].shape)}")
        seen = held["obs"] if isinstance(held["obs"], Mapping) else {"obs": held["obs"]}
        self.observations = {name: self._line(name, value) for name, value in seen.items()}
        for name, rows in self.observations.items():
            if rows.ndim < 2 or (rows.ndim > 2 and not (rows.ndim == 4 and rows.dtype == np.uint8)):
                raise ValueError(f"{name} is {rows.dtype}{list(rows.shape[1:])} a row, expected numbers or an image")
        self.action, self.reward = (
            self._line("action", held["action"]),
            self._line("reward", held["reward"]).reshape(-1),
        )
        self.has_tasks, self.has_ends = "task" in held, "terminated" in held
        self._episodes(held)
        self._tasks(held)
        self.terminal = np.zeros(len(self.starts), bool)
        if self.has_ends:
            self._ends(self._line("terminated", held["terminated"]).reshape(-1))

    def _line(self, name: str, tensor: Any) -> np.ndarray:
        """Its rows ``[rows, ...]``."""
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{name} is no tensor")
        if tuple(tensor.shape[: len(self._batch)]) != self._batch:
            raise ValueError(f"{name} is {list(tensor.shape)}, but there are {list(self._batch)} rewards")
        array = array_of(name, tensor)
        return array.reshape(-1, *array.shape[len(self._batch) :])

    def _episodes(self, held: Mapping[str, Any]) -> None:
        if len(self._batch) == 2:
            count, length = self._batch
            self.starts, self.lengths = np.arange(count) * length, np.full(count, length)
            return
        if "episode" not in held:
            raise ValueError("its rows are in one line, but no 'episode' tells where one ends")
        number = self._line("episode", held["episode"]).reshape(-1)
        self.starts = np.flatnonzero(np.append(True, number[1:] != number[:-1]))
        self.lengths = np.diff(np.append(self.starts, len(number)))
        values, counts = np.unique(number[self.starts], return_counts=True)
        if (counts > 1).any():
            raise ValueError(f"the rows of episode {values[counts > 1][0]} stand in several places")

    def _tasks(self, held: Mapping[str, Any]) -> None:
        self.tasks = np.zeros(len(self.starts), np.int64)
        if not self.has_tasks:
            return
        task = array_of("task", held["task"])
        if task.dtype.kind not in "iu":
            raise ValueError(f"task is {task.dtype}, expected whole numbers")
        if task.shape == (len(self.starts),) != self._batch:
            self.tasks = task.astype(np.int64)
            return
        task = self._line("task", held["task"]).reshape(-1)
        self.tasks = task[self.starts].astype(np.int64)
        wrong = np.flatnonzero(task != np.repeat(self.tasks, self.lengths))
        if wrong.size:
            episode, row = self._place(int(wrong[0]))
            said = f"task changes from {self.tasks[episode]} to {task[wrong[0]]}"
            raise damaged(self.file, said, episode=episode, row=row)

    def _ends(self, flags: np.ndarray) -> None:
        ended = np.nan_to_num(flags.astype(np.float32)) > 0.5
        last = self.starts + self.lengths - 1
        self.terminal = ended[last].copy()
        ended[last] = False
        if ended.any():
            episode, row = self._place(int(np.argmax(ended)))
            raise damaged(self.file, "terminated in the middle of the episode", episode=episode, row=row)

    def _check(self) -> None:
        """Every number is one, but the fillers in the first rows, before which nothing was done."""
        self.least, self.most = np.zeros(self.action.shape[1:], np.float32), np.zeros(self.action.shape[1:], np.float32)
        filler = np.zeros(len(self.reward), bool)
        filler[self.starts] = True
        for name, rows, free in [
            *((name, rows, False) for name, rows in self.observations.items()),
            ("action", self.action, True),
            ("reward", self.reward, True),
        ]:
            for start, block in _blocks(rows):
                with np.errstate(over="ignore"):
                    flat = block.reshape(len(block), -1).astype(np.float32, copy=False)
                good = np.isfinite(flat).all(axis=1)
                if free:
                    good |= filler[start : start + len(block)]
                if not good.all():
                    at = start + int(np.argmin(good))
                    episode, row = self._place(at)
                    bad = np.ravel(rows[at])[~np.isfinite(np.float32(np.ravel(rows[at])))][0]
                    raise damaged(
                        self.file, f"{name} is {bad}", episode=episode, row=row, way_out="only row 0 may hold a filler"
                    )
                if name == "action":
                    acted = flat[~filler[start : start + len(block)]]
                    self.least = np.minimum(self.least, acted.min(axis=0, initial=0))
                    self.most = np.maximum(self.most, acted.max(axis=0, initial=0))

    def _place(self, at: int) -> tuple[int, int]:
        episode = int(np.searchsorted(self.starts, at, side="right")) - 1
        return episode, at - int(self.starts[episode])

    def check_alike(self, other: TaskFile) -> None:
        """Raise DatasetError if the rows are of other shapes than another file's."""
        mine, others = self._shapes(), other._shapes()
        if mine != others:
            name = next(name for name in {**others, **mine} if mine.get(name) != others.get(name))
            raise damaged(
                self.file, f"{name} is {mine.get(name, 'missing')} a row, {others.get(name, 'missing')} in "
                f"{other.file.name}", way_out="all rows of a dataset have one shape",
            )  # fmt: skip

    def _shapes(self) -> dict[str, Any]:
        named = {name: list(rows.shape[1:]) for name, rows in self.observations.items()}
        ends = {"task": self.has_tasks, "terminated": self.has_ends}
        return named | {"action": list(self.action.shape[1:])} | {name: "there" for name, is_ in ends.items() if is_}

    def episodes(self, tasks: list[int] | None) -> np.ndarray:
        """Return the numbers of the episodes of some tasks (None: of all)."""
        return np.arange(len(self.starts)) if tasks is None else np.flatnonzero(np.isin(self.tasks, tasks))

    def check_padding(self, name: str, dim: int, which: np.ndarray) -> None:
        """Raise DatasetError if what lies beyond ``dim`` is not all zeros in some episodes."""
        rows = self.action if name == "action" else self.observations[name]
        for number in which if dim < rows.shape[1] else ():
            first = name == "action"  # whose first row is a filler
            start, stop = int(self.starts[number]) + first, int(self.starts[number] + self.lengths[number])
            if rows[start:stop, dim:].any():
                widest = int(np.flatnonzero(rows[start:stop].any(axis=0))[-1]) + 1
                raise damaged(
                    self.file, f"{name} has {widest} numbers that are not zero, more than {dim}", episode=int(number),
                    way_out="pick tasks= of this width",
                )  # fmt: skip

    def observed(self, name: str, number: int, rows: np.ndarray) -> np.ndarray:
        """Return rows of an observation in an episode."""
        values = self.observations[name][self.starts[number] + rows]
        return values if values.ndim == 4 else values.astype(np.float32, copy=False)

    def actions(self, number: int, rows: np.ndarray) -> np.ndarray:
        """Return the actions done at rows: those that led to the next ones; zeros at the last."""
        last = int(self.lengths[number]) - 1
        values = self.action[self.starts[number] + np.minimum(rows + 1, last)].astype(np.float32)
        values[rows == last] = 0
        return values

    def rewards(self, number: int, rows: np.ndarray) -> np.ndarray:
        """Return the rewards received on arriving at rows, 0 at the first."""
        values = self.reward[self.starts[number] + rows].astype(np.float32)
        values[rows == 0] = 0
        return values


def _blocks(rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    if rows.dtype.kind == "f":
        yield from ((start, rows[start : start + _ROWS]) for start in range(0, len(rows), _ROWS))
    elif rows.dtype.kind not in "iub":
        raise DatasetError(f"rows of {rows.dtype} are no numbers")
