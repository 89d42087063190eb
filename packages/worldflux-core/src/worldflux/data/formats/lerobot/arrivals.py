"""From frames, whose rewards follow their actions, to rows in the arrival convention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ModalityKind, ModalitySpec
from worldflux.words.counts import counted

from ...recording import EpisodeTable
from ..common.arrivals import Arrivals, stands_in
from ..common.columns import vector_spec, vectors
from .episodes import Episode
from .info import Info

#: When ``next.done`` is an end in truth: never, as nothing tells it from a time limit; with ``next.success``; always.
ENDS = ("unknown", "success", "done")


class FrameRows:
    """Frames as rows in the arrival convention: who gets a stand-in row, and which episodes ended in truth."""

    def __init__(
        self,
        info: Info,
        episodes: Sequence[Episode],
        frames: Mapping[str, np.ndarray],
        *,
        ends: str,
        tail: str | None,
    ) -> None:
        self.info, self.frames = info, frames
        lengths = np.array([one.length for one in episodes])
        last = np.cumsum(lengths) - 1
        none = np.zeros(len(lengths), bool)
        done = self._flag("next.done", last, none, ends == "done")
        success = self._flag("next.success", last, none, ends == "success")
        if ends == "success" and "next.done" not in frames:
            done = ~none
        terminal = {"unknown": none, "success": done & success, "done": done}[ends]
        pays = "next.reward" in frames or bool(terminal.any())
        said: list[str] = []
        stand_in = stands_in(tail, pays=pays, remarks=said)
        self._arrivals = Arrivals(lengths, extra=stand_in)
        ids = [f"episode_{one.index:06d}" for one in episodes]
        self.table = EpisodeTable.of(ids, self._arrivals.lengths, terminal & stand_in, np.full(len(ids), stand_in))
        self.remarks = (*said, *self._said(ends, done, success))

    @property
    def taken(self) -> np.ndarray:
        """Which rows have an action that somebody took: all but the stand-ins."""
        return ~self._arrivals.extra

    def rows(self, frames: np.ndarray) -> np.ndarray:
        """Return frames as rows; a stand-in row repeats the frame before it."""
        return self._arrivals.states(frames)

    def columns(self) -> tuple[dict[str, np.ndarray], dict[str, ModalitySpec], dict[str, ModalitySpec]]:
        """Return the columns but the action, and the specs of observations and of what else is kept."""
        columns: dict[str, np.ndarray] = {}
        specs: dict[str, dict[str, ModalitySpec]] = {"obs": {}, "info": {}}
        for key, frames in self.frames.items():
            if key == "action":
                continue
            shift = self._arrivals.arrived if key.startswith("next.") else self.rows
            if key == "next.reward":
                columns["reward"] = shift(np.asarray(frames, np.float32).reshape(len(frames), -1)[:, 0])
                continue
            if key == "task_index":
                name = self.info.features[key].name
                columns[f"info/{name}"] = shift(frames.astype(np.int64))
                specs["info"][name] = ModalitySpec(ModalityKind.OTHER, (), "int64", name=name)
                continue
            kind, name = ("obs" if key.startswith("observation.") else "info"), self.info.features[key].name
            columns[f"{kind}/{name}"] = flat = shift(vectors(frames))
            specs[kind][name] = vector_spec(name, flat)
        return columns, specs["obs"], specs["info"]

    def _flag(self, key: str, last: np.ndarray, none: np.ndarray, needed: bool) -> np.ndarray:
        if key in self.frames:
            return self.frames[key].reshape(len(self.frames[key]), -1)[last, 0].astype(bool)
        if needed:
            raise ConfigurationError(f"ends= asks for {key}, which this set does not have: leave it out")
        return none

    def _said(self, ends: str, done: np.ndarray, success: np.ndarray) -> list[str]:
        said = []
        if ends == "unknown" and done.any():
            said.append(
                f"next.done does not tell an end in truth from a time limit: none of {int(done.sum())} is taken as one "
                f"({int((done & success).sum())} with next.success; ends='success' takes those, ends='done' all)"
            )
        if "next.done" in self.frames:
            early = np.delete(
                self.frames["next.done"].reshape(len(self.frames["next.done"]), -1)[:, 0], self._arrivals.last
            )
            if early.any():
                said.append(
                    "next.done is true in "
                    f"{counted(int(early.sum()), 'frame that is', 'frames that are')} not the last of the episode"
                )
        return said
