"""Where a sequence may start: exact, uniform, and kept up to date row by row instead of being searched for.

A row's handle is ``row * streams + stream``, where ``row`` counts every row a stream ever received. Handles grow with
time, so the rows still stored are a range of handles, and a set of starts is a queue: the newest enter at its tail
as their last row arrives, the oldest leave at its head as they are overwritten.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from worldflux.words.counts import counted


class CrossStarts:
    """Starts of sequences that may run over the end of an episode: a plain range of handles."""

    def __init__(self, length: int, streams: int) -> None:
        self._length, self._streams = length, streams
        self._first = self._stop = 0

    def __len__(self) -> int:
        return max(0, self._stop - self._first)

    def extend(self, row: int, run_start: np.ndarray) -> None:
        """Take note that ``row`` was written in every stream."""
        self._stop = (row - self._length + 2) * self._streams

    def expire(self, oldest: int) -> None:
        """Forget the starts before row ``oldest``."""
        self._first = oldest * self._streams

    def draw(self, rng: np.random.Generator, number: int) -> np.ndarray:
        """Draw ``number`` start handles uniformly, with replacement."""
        return self._first + rng.integers(len(self), size=number)


class WithinStarts:
    """Starts of sequences that stay inside one episode: a ring of handles, 8 bytes a row, O(1) to add and to draw."""

    def __init__(self, length: int, streams: int, capacity: int) -> None:
        self._length, self._streams = length, streams
        self._ring = np.empty(streams * capacity, np.int64)  # untouched pages cost nothing
        self._head = self._count = 0

    def __len__(self) -> int:
        return self._count

    def extend(self, row: int, run_start: np.ndarray) -> None:
        """Take note that ``row`` was written; ``run_start`` ``[streams]`` is the first row of each open episode."""
        start = row - self._length + 1
        self._push(start * self._streams + np.flatnonzero(run_start <= start) if start >= 0 else np.empty(0, int))

    def fill(self, is_first: np.ndarray, oldest: int) -> None:
        """Index the stored rows ``is_first`` ``[streams, rows]``, the first of which is row ``oldest``."""
        rows = is_first.shape[1]
        run_start = np.maximum.accumulate(np.where(is_first, np.arange(rows), 0), axis=1)
        starts = np.arange(rows) - self._length + 1
        at, stream = np.nonzero((run_start <= starts).T)
        self._head = self._count = 0
        self._push((oldest + starts[at]) * self._streams + stream)

    def expire(self, oldest: int) -> None:
        """Forget the starts before row ``oldest``."""
        limit, size = oldest * self._streams, len(self._ring)
        while self._count and self._ring[self._head] < limit:
            self._head = (self._head + 1) % size
            self._count -= 1

    def draw(self, rng: np.random.Generator, number: int) -> np.ndarray:
        """Draw ``number`` start handles uniformly, with replacement."""
        return self._ring[(self._head + rng.integers(self._count, size=number)) % len(self._ring)]

    def _push(self, handles: np.ndarray) -> None:
        where = (self._head + self._count + np.arange(len(handles))) % len(self._ring)
        self._ring[where] = handles
        self._count += len(handles)


class OnlineQueue:
    """Fresh sequences that wait to be sampled once: each stream cut into blocks that do not overlap (DreamerV3)."""

    def __init__(self, length: int, streams: int) -> None:
        self.length, self._streams = length, streams
        self._queue: deque[int] = deque()
        self._next = np.zeros(streams, np.int64)  # first row of each stream that belongs to no block yet

    def __len__(self) -> int:
        return len(self._queue)

    def extend(self, row: int, run_start: np.ndarray) -> None:
        """Take note that ``row`` was written in every stream, and queue the blocks it completes."""
        start = row - self.length + 1
        done = start >= np.maximum(run_start, self._next)
        self._next[done] = row + 1
        self._queue.extend((start * self._streams + np.flatnonzero(done)).tolist())

    def expire(self, oldest: int) -> None:
        """Forget the blocks that begin before row ``oldest``."""
        while self._queue and self._queue[0] < oldest * self._streams:
            self._queue.popleft()

    def pop(self, number: int) -> np.ndarray:
        """Take up to ``number`` start handles, oldest first."""
        return np.array([self._queue.popleft() for _ in range(min(number, len(self)))], np.int64)

    def keep(self, share: slice) -> None:
        """Keep some of the queued blocks: the others are another's."""
        self._queue = deque(list(self._queue)[share])

    def state(self) -> dict[str, np.ndarray]:
        """Return the queue as arrays."""
        return {"queue": np.array(self._queue, np.int64), "next": self._next.copy()}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Restore what ``state`` returned."""
        self._queue = deque(np.asarray(state["queue"], np.int64).tolist())
        self._next[:] = state["next"]


def too_short(length: int, *, streams: int, rows: int, longest: int) -> str:
    """Say why ``streams`` of ``rows`` each, whose longest episode has ``longest``, offer no sequence of a length."""
    have = f"the replay holds {counted(streams * rows, 'row')}, {rows} in each of {counted(streams, 'stream')}"
    if rows >= length:
        what = f"no episode has {counted(length, 'row')}, the longest has {longest} ({have})"
        return f"{what}: ask for shorter sequences, or use boundary='cross'"
    wanted = f"sequences of {counted(length, 'row')}"
    return f"{wanted} were asked for, but {have}: add more rows or ask for shorter sequences"
