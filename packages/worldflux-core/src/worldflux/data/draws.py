"""Random numbers that no two processes share: what a copy in another process draws is a stream of its own."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

import numpy as np
from torch.utils.data import get_worker_info

Place = tuple[int, ...]


class Draws:
    """A numpy generator that knows in which process it was made.

    A copy in another process (a DataLoader's worker, a child of ``multiprocessing``, a fork) goes on with a stream of
    its own, which follows from the generator's state and the process: a worker's from its ``WorkerInfo.seed``, so that
    workers and epochs differ, and the same seeds give the same numbers.
    """

    def __init__(self, seed: int) -> None:
        self.generator, self._place = np.random.default_rng(seed), _place()

    def settle(self) -> slice | None:
        """In a copy that came here from another process, begin a stream of its own, before the first draw.

        Returns what this copy has, then, of things that all copies together have once: a worker every n-th of them, any
        other none. Otherwise returns None.
        """
        place = _place()
        if place == self._place:
            return None
        self._place = place
        self.generator = np.random.default_rng([*self.generator.integers(1 << 32, size=4).tolist(), *place])
        worker: Any = get_worker_info()
        return slice(0) if worker is None else slice(worker.id, None, worker.num_workers)

    @property
    def state(self) -> dict[str, Any]:
        """The generator's state, JSON-able."""
        return dict(self.generator.bit_generator.state)

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._place = _place()
        self.generator.bit_generator.state = state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if multiprocessing.parent_process() is None:  # read from a file, or a child that has not begun yet
            self._place = _place()


def _place() -> Place:
    """What tells this process from those beside it, the same in every run of a program where that is possible."""
    worker: Any = get_worker_info()
    if worker is not None:
        return 0, int(worker.seed) % (1 << 63)
    child: Place = getattr(multiprocessing.current_process(), "_identity", ())
    return (1, *child) if child else (2, os.getpid())
