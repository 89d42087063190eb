"""Recordings of which some columns stay on disk until rows of them are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ...recording import Recording


class Source(Protocol):
    """Where a column's rows come from."""

    def rows(self, episode: int, rows: np.ndarray) -> np.ndarray:
        """Return the rows ``[n]`` (not falling) of an episode, ``[n, ...]``. Raises DatasetError for damaged data."""

    def close(self) -> None:
        """Close what is open; it opens again when rows are asked for."""


@dataclass
class LazyRecording(Recording):
    """A recording whose ``sources`` give, by name, what is not in memory; a stand-in row repeats the one before."""

    sources: dict[str, Source] = field(default_factory=dict)

    def read(self, name: str, episode: int, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Return rows ``start:stop:step`` of a column in one episode. Raises DatasetError for damaged data."""
        if name not in self.sources:
            return super().read(name, episode, start, stop, step)
        length = int(self.episodes.lengths[episode])
        rows = np.arange(start, min(stop, length), step)
        last = length - 1 - bool(self.episodes.stand_in[episode])
        return self.sources[name].rows(episode, np.minimum(rows, last))

    def close(self) -> None:
        """Close every file that is open."""
        for source in self.sources.values():
            source.close()
