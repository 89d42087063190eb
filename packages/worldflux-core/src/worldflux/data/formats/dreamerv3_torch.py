"""dreamerv3-torch's episodes: files ``NAME-LENGTH.npz``, one an episode, with the action that led to each row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.words.counts import counted

from ..recording import EpisodeTable, Recording
from .common.actions import OPTIONS, ActionOptions
from .common.arrivals import padded
from .common.episode_npz import Table, episode_lines
from .common.guard import refuse_unknown
from .common.npz_files import NpzFiles, npz_of

_NAME = re.compile(r"\d{8}T\d{6}-[0-9A-Za-z]+-\d{1,9}\.npz")
_LENGTH = re.compile(r"(.+?)(?:-.*)?-(\d{1,9})\.npz")
#: What no observation is: bookkeeping of the policy that acted.
_BOOKKEEPING = ("logprob", "discount", "is_first", "is_last", "is_terminal", "action", "reward")


class DreamerV3Torch:
    """A folder of episodes as dreamerv3-torch saves them: the file's end is the episode's."""

    name = "dreamerv3-torch"

    def detect(self, path: Path) -> bool:
        """Tell by the names of the files."""
        return path.is_dir() and any(_NAME.fullmatch(file.name) for file in path.glob("*.npz"))

    def open(self, path: Path, **options: Any) -> Recording:
        """Return the episodes, by the names of their files. Raises DatasetError for damaged files."""
        refuse_unknown(self.name, options, OPTIONS)
        files = NpzFiles(sorted(npz_of(path), key=_age), episodes=True)
        self._check_names(files)
        first = files.columns[0]
        for name in ("action", "is_first"):
            if name not in first:
                raise files.wrong(0, f"column {name!r} is missing; it holds {', '.join(first)}")
        observed = [n for n in first if n not in _BOOKKEEPING and not n.startswith("log_")]
        truth = next((name for name in ("is_terminal", "discount") if name in first), None)
        names = [*observed, "action", *(name for name in ("reward", "is_first") if name in first)]
        names += [name for name in ("is_last", "is_terminal", "discount") if name in first]
        files.check_alike(names)
        small = files.load([name for name in names if name not in files.pictures(observed)])
        for i, part in enumerate(small):
            _check_flags(files, i, part)
            files.check_finite(i, "action", part["action"])
            part["action"] = shifted(part["action"])
        lengths = [len(part["action"]) for part in small]
        terminal = None if truth is None else [_ended(part) for part in small]
        table = EpisodeTable.of([file.stem for file in files.files], lengths, terminal)
        remarks = [] if truth else ["neither is_terminal nor discount: every episode is read as cut short by time"]
        columns = Table(observed, action="action", reward="reward" if "reward" in first else None)
        lines = episode_lines(self.name, path, files, small, table, columns, remarks)
        return lines.recording(ActionOptions.of(options))

    def _check_names(self, files: NpzFiles) -> None:
        """Hold every column to the length that its file's name says."""
        for i, file in enumerate(files.files):
            if not (match := _LENGTH.fullmatch(file.name)):
                raise files.wrong(i, "its name is not NAME-LENGTH.npz, as dreamerv3-torch calls its episodes")
            for name, column in files.columns[i].items():
                if column.shape and column.shape[0] != int(match[2]):
                    raise files.wrong(
                        i, f"column {name!r} has {counted(column.shape[0], 'row')}, its name says {match[2]}"
                    )


def shifted(actions: np.ndarray) -> np.ndarray:
    """Return actions ``[T, ...]`` that led to their rows as those done at them; the last row's is a filler."""
    return padded(actions[1:], rows=len(actions))


def _age(file: Path) -> tuple[str, int, str]:
    """By the time in the name; what is of one second has no order of its own, so the shorter first."""
    match = _LENGTH.fullmatch(file.name)
    return (match[1], int(match[2]), file.name) if match else ("", 0, file.name)


def _ended(part: Mapping[str, np.ndarray]) -> bool:
    truth = bool(part["is_terminal"].reshape(-1)[-1]) if "is_terminal" in part else False
    return truth or ("discount" in part and float(part["discount"].reshape(-1)[-1]) == 0)


def _check_flags(files: NpzFiles, index: int, part: Mapping[str, np.ndarray]) -> None:
    first = part["is_first"].reshape(-1) != 0
    if not first[:1].all() or first[1:].any():
        row = int(np.argmax(first[1:])) + 1 if first[1:].any() else 0
        raise files.wrong(index, f"is_first is {bool(first[row])}, expected True in row 0 alone", row=row)
    for name in ("is_last", "is_terminal"):
        if name in part and (part[name].reshape(-1)[:-1] != 0).any():
            row = int(np.argmax(part[name].reshape(-1) != 0))
            raise files.wrong(index, f"{name} before the end of the file", row=row)
