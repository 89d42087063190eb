"""A folder of ``.npz`` files, one an episode: the simplest way to bring data of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.words.counts import counted

from ..recording import EpisodeTable, Recording
from .common.actions import OPTIONS, ActionOptions
from .common.arrivals import Layout, arrival, check_layout, guess_layout, padded, stands_in
from .common.episode_npz import Table, episode_lines
from .common.guard import refuse_unknown
from .common.naming import ACTION, FIRST, LAST, OPTIONS as NAMES, REWARD, TERMINAL, Chosen, choose
from .common.npz_files import NpzFiles, npz_of

_ONE_EPISODE = "one file is one episode; if the flag says something else, stops=[] does without it"
_EXAMPLE = "np.savez('episode_0000.npz', observation=obs, action=action, reward=reward)"


class NpzFolder:
    """Episodes in files of columns, told apart by their names: observations, an action, a reward, and flags."""

    name = "npz"

    def detect(self, path: Path) -> bool:
        """Tell by the files' ending."""
        return path.is_dir() and any(path.glob("*.npz"))

    def open(self, path: Path, *, layout: Layout | None = None, tail: str | None = None, **options: Any) -> Recording:
        """Return the episodes, by the names of their files.

        ``obs`` (a name or several), ``action``, ``reward``, ``terminal``, ``stops``, ``info`` name columns. ``layout``
        says what a row is: ``"arrival"`` (the reward was paid on arriving), ``"gymnasium"`` (one observation more than
        actions, the reward was paid after the action), or ``"transitions"`` (the same without the last observation,
        which a stand-in replaces, or, with ``tail="drop"``, the last reward is lost). Raises DatasetError for files
        that are damaged or do not go together, ConfigurationError for options that do not fit.
        """
        refuse_unknown(self.name, options, (*NAMES, "layout", "tail", *OPTIONS))
        check_layout(layout, tail)
        files = NpzFiles(npz_of(path), episodes=True)
        chosen = choose(str(path), self._names(files), options)
        usable = ActionOptions.of(options)
        files.check_alike(chosen.used)
        pictures = files.pictures(chosen.observations)
        parts = files.load([name for name in chosen.used if name not in pictures])
        rows = [_Rows(files, i, chosen) for i in range(len(files.files))]
        remarks = list(chosen.remarks)
        if others := sorted({name for held in files.columns for name in held} - {*chosen.used}):
            remarks.append(f"left out: {', '.join(others)}")
        layout = self._layout(path, layout, rows, parts, chosen, remarks)
        pays = chosen.reward is not None or chosen.terminal is not None
        stand_in = layout == "transitions" and stands_in(tail, pays=pays, remarks=remarks)
        lengths, terminal = [], []
        for one, part in zip(rows, parts):
            terminal.append(one.ends(part, layout) and (layout != "transitions" or stand_in))
            one.arrange(part, layout, stand_in)
            lengths.append(one.observed + stand_in)
        table = EpisodeTable.of([f.stem for f in files.files], lengths, terminal, np.full(len(rows), stand_in))
        columns = Table(chosen.observations, chosen.action, chosen.reward, chosen.info)
        # transitions without a stand-in: the last action was taken, what it led to is not shown
        taken = np.ones(table.rows, bool) if layout == "transitions" and not stand_in else None
        return episode_lines(self.name, path, files, parts, table, columns, remarks, taken).recording(usable)

    def _names(self, files: NpzFiles) -> list[str]:
        """Every column but those that no file has as rows of numbers, and that have no known name."""
        usual = {*ACTION, *REWARD, *TERMINAL, *FIRST, *LAST}
        rows = lambda name: any(name in held and held[name].shape for held in files.columns)
        return [
            name for name in dict.fromkeys(n for held in files.columns for n in held) if name in usual or rows(name)
        ]

    def _layout(
        self,
        path: Path,
        layout: Layout | None,
        rows: Sequence[_Rows],
        parts: Sequence[dict[str, np.ndarray]],
        chosen: Chosen,
        remarks: list[str],
    ) -> Layout:
        more = {one.more for one in rows}
        if len(more) > 1:
            odd = next(one for one in rows if one.more != rows[0].more)
            raise odd.wrong(f"it has {odd.said}, the first file {rows[0].said}", way_out="give all files one layout")
        if more == {1}:
            if layout not in (None, "gymnasium"):
                raise ConfigurationError(f"layout={layout!r}, but {path} has {rows[0].said}: that is 'gymnasium'")
            return "gymnasium"
        if layout == "gymnasium":
            raise ConfigurationError(
                f"layout='gymnasium' wants one observation more than actions, but {path} has {rows[0].said}: "
                "without the last observation it is layout='transitions'"
            )
        if layout is not None:
            return layout
        first = np.array([part[chosen.reward].reshape(-1)[0] for part in parts]) if chosen.reward else None
        return guess_layout(str(path), chosen, first, remarks)


class _Rows:
    """One file: how many rows its columns have, and what they are in the arrival convention."""

    def __init__(self, files: NpzFiles, index: int, chosen: Chosen) -> None:
        self._files, self._index, self._chosen = files, index, chosen
        counts = {name: files.columns[index][name].shape[0] for name in chosen.used}
        first = chosen.observations[0]
        self.observed = counts[first]
        for name in chosen.observations:
            if counts[name] != self.observed:
                raise self.wrong(f"column {name!r} has {counted(counts[name], 'row')}, {first!r} has {self.observed}")
        after = chosen.action or chosen.reward or first
        self.more = self.observed - counts[after]
        self.said = f"{counted(self.observed, 'row')} of {first!r} and {counts[after]} of {after!r}"
        if self.more not in (0, 1) or self.observed < 1 or (self.more and self.observed < 2):
            raise self.wrong(
                f"it has {self.said}, expected as many, or one observation more (the last), and at least one action",
                way_out=f"as in {_EXAMPLE}",
            )
        for name in chosen.used:
            if counts[name] not in (self.observed, self.observed - self.more):
                raise self.wrong(
                    f"column {name!r} has {counted(counts[name], 'row')}, expected {counts[after]} or {self.observed}"
                )

    def wrong(self, what: str, *, row: int | None = None, way_out: str = "") -> Any:
        """The error that names this file."""
        return self._files.wrong(self._index, what, row=row, way_out=way_out)

    def ends(self, part: dict[str, np.ndarray], layout: Layout) -> bool:
        """Whether the episode ended in truth. Raises DatasetError for flags in its middle."""
        chosen = self._chosen
        for name in (chosen.first, chosen.terminal, chosen.last, *chosen.stops):
            if name is None:
                continue
            last = name != chosen.first
            flags = self._flags(name, part[name])
            inner = flags[:-1] if last else flags[1:]
            if inner.any():
                row = int(np.argmax(inner)) + (not last)
                raise self.wrong(f"{name} is true in the middle of the file", row=row, way_out=_ONE_EPISODE)
            if name == chosen.first and layout == "arrival" and not flags[0]:
                raise self.wrong(f"{name} is false in the first row", row=0)
        return chosen.terminal is not None and bool(self._flags(chosen.terminal, part[chosen.terminal])[-1])

    def _flags(self, name: str, values: np.ndarray) -> np.ndarray:
        if values.size != len(values) or not np.isin(values, (0, 1)).all():
            raise self.wrong(f"column {name!r} is {values.dtype}{list(values.shape)}, expected one true or false a row")
        return values.reshape(-1) != 0

    def arrange(self, part: dict[str, np.ndarray], layout: Layout, stand_in: bool) -> None:
        """Put the columns in the arrival convention, in place."""
        chosen, length = self._chosen, self.observed + stand_in
        for name in {*chosen.observations, *chosen.info} & set(part):
            while len(part[name]) < length:  # the last is repeated
                part[name] = np.concatenate([part[name], part[name][-1:]])
        if chosen.action is not None:
            values = part[chosen.action]
            self._files.check_finite(self._index, chosen.action, values[: len(values) - (layout == "arrival")])
            part[chosen.action] = padded(values, rows=length)
        if chosen.reward is not None:
            values = part[chosen.reward]
            self._files.check_finite(self._index, chosen.reward, values)
            if values.size != len(values):
                raise self.wrong(f"column {chosen.reward!r} is {list(values.shape[1:])} a row, expected one number")
            if layout != "arrival" and len(values) == self.observed - self.more:
                values = arrival(values.reshape(-1))[:length]
            part[chosen.reward] = values.reshape(-1)
