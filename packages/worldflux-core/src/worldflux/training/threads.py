"""How many threads the updates of a training use: as many as help, and no more on a machine that others use, too."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any, Literal

import torch

logger = logging.getLogger(__name__)

WARM_UP = 3  # updates that load, compile and allocate
ORDER = 2 * (0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0)  # 1: with all threads; without the periods of updates
CLEARLY = 1.1  # all threads are taken where they are this many times as fast as one
HOPELESS = 3.0  # and not tried on where they are this many times as slow
WORTH = 10.0  # seconds: for less than that there is nothing to gain
WINDOW = (5, 3.0)  # updates and seconds over which speed is judged later
BUSY, FAR_TOO_BUSY = 1.4, 3.0  # times as slow as before: tried again; said


@contextlib.contextmanager
def using(threads: int | Literal["auto"]) -> Iterator[None]:
    """Use so many threads meanwhile; for "auto" one, since threads of which one must wait are slow together."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if threads == "auto" else threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Threads:
    """Sets torch's number of threads for each update of one training, and times the updates.

    ``asked`` is a number, or "auto". Then the first updates take turns between one thread and all, and all are kept
    where they are clearly faster. Where updates become slower than they were, because others use the machine, the two
    are tried again. Sums are made in another order by another number of threads, so that the last bits of a training
    follow from its ``count``: a checkpoint keeps it.
    """

    def __init__(self, asked: int | Literal["auto"], *, on_cpu: bool) -> None:
        self.asked, self._chooses = asked, asked == "auto" and on_cpu
        self.most = torch.get_num_threads()
        self.count = self.most if asked == "auto" and not on_cpu else 1 if asked == "auto" else asked
        self._settled = not self._chooses
        self._tried: list[tuple[bool, float]] = []  # updates of this trial: whether with all threads, and seconds
        self._before_resuming = 0  # of these the first, which were made before a checkpoint: no seconds are in it
        self._recent: list[float] = []
        self._best, self._said = math.inf, False
        self._elsewhere, self._before = 0.0, self.most

    def __enter__(self) -> Threads:
        self._before = torch.get_num_threads()
        return self

    def __exit__(self, *error: object) -> None:
        self._set(self._before)

    @contextlib.contextmanager
    def update(self, *, left: int) -> Iterator[None]:
        """Time an update, after which about ``left`` are to be made."""
        every = not self._settled and self._tries_all
        self._set(self.count if self._settled else self.most if every else 1)
        began, self._elsewhere = time.perf_counter(), 0.0
        yield
        seconds = time.perf_counter() - began - self._elsewhere
        if self._settled:
            self._watch(seconds)
        else:
            self._tried.append((every, seconds))
            self._try(left)

    def meanwhile(self) -> contextlib.AbstractContextManager[None]:
        """Use the number that is settled for what is no update, such as an evaluation."""
        return using(self.count)

    @contextlib.contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Do not count what happens meanwhile, such as collecting: it differs from update to update."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._elsewhere += time.perf_counter() - began

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs to compute with the same threads, JSON-able."""
        return {"count": self.count, "settled": self._settled, "tried": self._number}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as saved, unless a number is asked for."""
        if self._chooses:
            self.count, self._settled = int(state["count"]), bool(state["settled"])
            self._tried, self._before_resuming = [], int(state["tried"])

    def _set(self, count: int) -> None:
        if torch.get_num_threads() != count:
            torch.set_num_threads(count)

    @property
    def _number(self) -> int:
        """How many updates this trial has made."""
        return self._before_resuming + len(self._tried)

    @property
    def _tries_all(self) -> bool:
        return self._number >= WARM_UP and bool(ORDER[(self._number - WARM_UP) % len(ORDER)])

    def _try(self, left: int) -> None:
        made, (every, seconds) = self._number - WARM_UP, self._tried[-1]
        if made < 0:
            return
        skip = max(0, WARM_UP - self._before_resuming) if made else 0
        took = {kind: [value for with_all, value in self._tried[skip:] if with_all is kind] for kind in (False, True)}
        one = median(took[False] or [value for _, value in self._tried])
        if made == 0 and left * one < WORTH:
            self._begin()  # one thread, until there is more to do (a run that is gone on with for longer)
        elif every and seconds > HOPELESS * one:
            self._settle(1, one, seconds)
        elif made and made % len(ORDER) == 0 and all(took.values()):
            with_all = median(took[True])
            self._settle(self.most if one > CLEARLY * with_all else 1, one, with_all)

    def _begin(self) -> None:
        self._tried, self._before_resuming = [], 0

    def _settle(self, count: int, one: float, every: float) -> None:
        tried = f"{every * 1e3:.3g} ms with {self.most} threads"
        logger.debug("an update takes %.3g ms with one thread, %s: going on with %d", one * 1e3, tried, count)
        self.count, self._settled = count, True
        self._begin()
        self._recent, self._best = [], math.inf

    def _watch(self, seconds: float) -> None:
        self._recent.append(seconds)
        if len(self._recent) < WINDOW[0] or sum(self._recent) < WINDOW[1]:
            return
        now, self._recent = median(self._recent), []
        self._best = min(self._best, now)
        again = self._chooses and self.count > 1 and now > BUSY * self._best
        if again or (now > FAR_TOO_BUSY * self._best and not self._said):
            self._said = True
            logger.warning(
                "updates take %.1f times as long as they did (load average %.1f on %d processors: other programs are "
                "busy here, or other trainings)%s", now / self._best, _load(), os.cpu_count() or 1,
                "; seeing whether one thread is faster now" if again else "",
            )  # fmt: skip
        if again:
            self._settled = False
            self._begin()


def _load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan  # Windows has none
