"""Columns of sequences from recorded episodes: every row, or every k-th with what was done and paid between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .recording import EpisodeTable, Recording

Piece = tuple[int, int, int]  # an episode, its first row here, and how many rows are kept of it from there


@dataclass(frozen=True)
class Sequences:
    """Sequences of ``frame_skip`` = k apart: the only place that knows what that means.

    Kept rows are k apart. The action of one is the k actions up to the next one, ``[k * A]``, zeros beyond the
    episode's end; its reward is the sum of the k it received since the one before, or since the episode began.
    """

    recording: Recording
    table: EpisodeTable
    which: np.ndarray
    frame_skip: int = 1

    def columns(self, names: Iterable[str], windows: Sequence[Sequence[Piece]]) -> dict[str, np.ndarray]:
        """Return ``[B, T, ...]`` by name, with the three flags and ``index``, the recording's number of each row.

        A window is one piece of an episode, or several that follow one another; where one ends before its episode does
        and another follows, its last row ``is_last``: nobody watched on.
        """
        if all(len(pieces) == 1 for pieces in windows):
            episodes, starts, counts = np.array([pieces[0] for pieces in windows], np.int64).T
            return self._gathered(names, episodes, starts, int(counts[0]))
        parts = [[self._gathered(names, *_one(piece)) for piece in pieces] for pieces in windows]
        for pieces in parts:
            for part in pieces[:-1]:
                part["is_last"][:, -1] = True
        joined = [{name: np.concatenate([part[name] for part in pieces], 1) for name in pieces[0]} for pieces in parts]
        return {name: np.concatenate([one[name] for one in joined]) for name in joined[0]}

    def _gathered(self, names: Iterable[str], episodes: np.ndarray, starts: np.ndarray, length: int) -> dict:
        own, skip = self.which[episodes], self.frame_skip
        between = {"action": self._actions, "reward": self._rewards} if skip > 1 else {}
        out = {}
        for name in names:
            if name in between:
                out[name] = between[name](own, starts, length)
            else:
                out[name] = self.recording.gather(name, own, starts, length, skip)
        rows = starts[:, None] + np.arange(0, length * skip, skip)
        out["is_first"] = rows == 0
        out["is_last"] = rows == self.table.lengths[episodes][:, None] - 1
        out["is_terminal"] = out["is_last"] & self.table.terminal[episodes][:, None]
        out["index"] = self.recording.first_rows[own][:, None] + rows
        return out

    def _actions(self, own: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
        span, size = length * self.frame_skip, self.recording.action_spec.dim
        out = np.zeros((len(own), span, size), np.float32)
        for into, episode, start in zip(out, own.tolist(), starts.tolist(), strict=True):
            stop = min(start + span, int(self.recording.episodes.lengths[episode]))
            into[: stop - start] = self.recording.read("action", episode, start, stop)
        return out.reshape(len(own), length, self.frame_skip * size)

    def _rewards(self, own: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
        span = length * self.frame_skip
        out = np.zeros((len(own), span), np.float32)
        for into, episode, start in zip(out, own.tolist(), starts.tolist(), strict=True):
            first, stop = max(start - self.frame_skip + 1, 0), start + span - self.frame_skip + 1
            into[span - (stop - first) :] = self.recording.read("reward", episode, first, stop)
        return out.reshape(len(own), length, self.frame_skip).sum(axis=2)


def _one(piece: Piece) -> tuple[np.ndarray, np.ndarray, int]:
    return np.array([piece[0]]), np.array([piece[1]]), piece[2]
