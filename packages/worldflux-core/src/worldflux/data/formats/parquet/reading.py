"""Tables in Parquet with an episode and a step a row, as the datasets library and many others write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.files import opened

from ...recording import DatasetError, EpisodeTable, Recording, damaged
from ..common.actions import OPTIONS, ActionOptions
from ..common.arrivals import Arrivals, Layout, check_layout, guess_layout, stands_in
from ..common.columns import there
from ..common.guard import refuse_unknown
from ..common.lines import Lines, observation_names
from ..common.naming import EPISODE, OPTIONS as NAMES, STEP, Chosen, choose, info_name
from ..common.npz_files import naturally, within
from ..common.tables import numbers
from .files import ParquetFiles
from .images import ImageColumns
from .order import Order


class Parquet:
    """Files of a table whose rows are steps; they may be shuffled, and files cut inside episodes."""

    name = "parquet"

    def detect(self, path: Path) -> bool:
        """Tell by the files' ending and first bytes."""
        if (path / "meta" / "info.json").exists():  # LeRobot's
            return False
        try:
            files = _files(path)
            if not files:
                return False
            with opened(files[0], follow=True) as handle:
                return files[0].suffix == ".parquet" and handle.read(4) == b"PAR1"
        except OSError:
            return False

    def open(
        self,
        path: Path,
        *,
        episode: str | None = None,
        step: str | None = None,
        split: str | None = None,
        layout: Layout | None = None,
        tail: str | None = None,
        **options: Any,
    ) -> Recording:
        """Return the episodes, by their numbers or names.

        ``episode`` and ``step`` name the columns that tell which row is which, ``obs``, ``action``, ``reward``,
        ``terminal`` and ``info`` the others; ``split`` picks files. ``layout`` says when a row's reward was paid:
        ``"arrival"`` (on arriving), ``"transitions"`` (after the action), or ``"gymnasium"`` (the same, and an
        episode's last row is its last observation alone); ``tail`` as for ``npz``. Raises DatasetError for files that
        are damaged or rows that do not go together, ConfigurationError for options that do not fit.
        """
        refuse_unknown(self.name, options, ("episode", "step", "split", "layout", "tail", *NAMES, *OPTIONS))
        check_layout(layout, tail)
        table = ParquetFiles(_chosen_files(path, split))
        remarks: list[str] = []
        keys = _key(path, table, "episode", episode, EPISODE, remarks), _key(path, table, "step", step, STEP, remarks)
        order = Order(path, table, *keys, remarks)
        usable = [n for n, kind in table.kinds.items() if kind.form not in ("text", "other") and n not in keys]
        chosen = choose(str(path), usable, options, keys=[name for name in keys if name])
        actions = ActionOptions.of(options)
        return _Rows(self.name, path, table, order, chosen, remarks).lines(layout, tail).recording(actions)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return naturally(path.glob("*.parquet")) or naturally(path.glob("*/*.parquet"))


def _chosen_files(path: Path, split: str | None) -> list[Path]:
    files = _files(path)
    if not files:
        raise DatasetError(f"{path} holds no .parquet files")
    if path.is_dir():
        within(path, files)
    if split is None:
        return files
    kept = [file for file in files if file.name.startswith(f"{split}-") or split in (file.stem, file.parent.name)]
    if not kept:
        raise ConfigurationError(f"split={split!r}: none of {', '.join(file.name for file in files[:8])} is of it")
    return kept


def _key(
    path: Path, table: ParquetFiles, part: str, given: str | None, common: tuple[str, ...], remarks: list[str]
) -> str | None:
    names = list(table.kinds)
    if given is not None:
        return there(path, part, given, names)
    found = next((name for name in common if name in names), None)
    if found is not None:
        remarks.append(f"the {part} of a row is {found!r}, by its name")
    elif part == "episode":
        raise ConfigurationError(
            f"{path} has no column that tells the episode among {', '.join(names)}: name it, as in episode='run_id'"
        )
    return found


@dataclass
class _Rows:
    """The rows of a table in order, to be put in the arrival convention."""

    format: str
    path: Path
    table: ParquetFiles
    order: Order
    chosen: Chosen
    remarks: list[str]

    def lines(self, layout: Layout | None, tail: str | None) -> Lines:
        order, chosen = self.order, self.chosen
        self.remarks += chosen.remarks
        images = [name for name in chosen.observations if self.table.kinds[name].form in ("nested", "encoded")]
        small = {name: self._small(name) for name in chosen.used if name not in images}
        reward = small.pop(chosen.reward, None) if chosen.reward else None
        if layout is None:
            first = None if reward is None else reward[0][order.first]
            layout = guess_layout(str(self.path), chosen, first, self.remarks)
        pays = chosen.reward is not None or chosen.terminal is not None
        stand_in = layout == "transitions" and stands_in(tail, pays=pays, remarks=self.remarks)
        terminal = self._terminal(small, layout) & (layout != "transitions" or stand_in)
        arrivals = Arrivals(order.lengths, extra=stand_in)
        line = order.sorted_rows[arrivals.source]
        episodes = EpisodeTable.of(order.ids, arrivals.lengths, terminal, np.full(len(order.ids), stand_in))
        last = np.cumsum(arrivals.lengths) - 1
        called = observation_names(chosen.observations)
        pictures = ImageColumns(self.table, order, images, called)
        return Lines(
            self.format,
            self.path,
            self.table.files,
            episodes,
            lambda at: order.place(int(line[at])),
            vectors={called[n]: small[n][0][line] for n in chosen.observations if n not in images},
            action=small[chosen.action][0][line] if chosen.action else None,
            reward=None if reward is None else self._reward(*reward, layout, arrivals),
            images=pictures.shapes,
            info={info_name(name): small[name][0][line] for name in chosen.info},
            load=pictures.load,
            block=order.group[line],
            row=order.at[line],
            taken=self._taken(small, line, last, layout != "transitions" or stand_in),
            remarks=self.remarks,
            provenance={"files": len(self.table.files), "columns": {"episode": order.episode, "step": order.step}},
        )

    def _small(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A column in the table's order, and which of its rows are not null."""
        arrays, starts = self.table.column(name), np.cumsum(self.table.counts) - self.table.counts
        parts: list[Any] = []
        for start, array in zip(starts, arrays):
            refuse = lambda row, what, start=start: damaged(**self.order.place(int(start) + row), what=f"{name} {what}")
            parts.append(numbers(array, refuse, parts[0][0].shape[1:] if parts else None))
        values, there = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        loose = {self.chosen.action, self.chosen.reward}
        allowed = (self.order.is_last | self.order.is_first) if name in loose else np.zeros(len(there), bool)
        if (missing := ~there & ~allowed).any():
            raise damaged(**self.order.place(int(np.argmax(missing))), what=f"{name} is null")
        return values, there

    def _terminal(self, small: Mapping[str, Any], layout: Layout) -> np.ndarray:
        order, chosen = self.order, self.chosen
        ended = np.zeros(len(order.ids), bool)
        for name in (chosen.first, chosen.last, chosen.terminal, *chosen.stops):
            if name is None:
                continue
            values = small[name][0]
            if values.ndim != 1 or not np.isin(values, (0, 1)).all():
                raise DatasetError(f"{self.path}: column {name!r} is no true or false of each row")
            flags, allowed = values != 0, order.is_first if name == chosen.first else order.is_last
            if layout == "gymnasium" and name != chosen.first:  # the last action's row is the one before
                allowed = allowed | order.is_next_to_last
            if (flags & ~allowed).any():
                raise damaged(**order.place(int(np.argmax(flags & ~allowed))), what=f"{name} is true in mid-episode")
            if name == chosen.first and layout == "arrival" and (order.is_first & ~flags).any():
                raise damaged(**order.place(int(np.argmax(order.is_first & ~flags))), what=f"{name} is false")
            if name == chosen.terminal:
                np.logical_or.at(ended, order.code, flags)
        return ended

    def _taken(self, small: Mapping[str, Any], line: np.ndarray, last: np.ndarray, at_rest: bool) -> np.ndarray | None:
        """Which rows have an action that was taken; ``at_rest``: the last ones have none."""
        if self.chosen.action is None:
            return None
        there = small[self.chosen.action][1]
        if (missing := ~there & (self.order.is_first & ~self.order.is_last)).any():
            raise damaged(**self.order.place(int(np.argmax(missing))), what=f"{self.chosen.action} is null")
        taken = there[line]
        taken[last] &= not at_rest
        return taken

    def _reward(self, values: np.ndarray, there: np.ndarray, layout: Layout, arrivals: Arrivals) -> np.ndarray:
        order, name = self.order, self.chosen.reward
        if values.size != len(values):
            raise DatasetError(f"{self.path}: {name} has {list(values.shape[1:])} numbers a row, expected one")
        values = values.reshape(-1)
        free = order.is_first if layout == "arrival" else order.is_last if layout == "gymnasium" else ~there & False
        if (missing := ~there & ~free).any():
            raise damaged(**order.place(int(np.argmax(missing))), what=f"{name} is null")
        if layout == "arrival":
            return values[order.sorted_rows]
        if layout == "gymnasium" and (paid := order.is_last & (values != 0)).any():
            raise damaged(
                **order.place(int(np.argmax(paid))), what=f"{name} of the last row is {values[np.argmax(paid)]:g}",
                way_out="an episode's last row is its last observation alone; if it acts, it is layout='transitions'",
            )  # fmt: skip
        return arrivals.arrived(values[order.sorted_rows])
