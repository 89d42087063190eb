"""Pieces of files that were read last, kept for the next window."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

#: Bytes of pieces that are kept of a recording; one is kept whatever its size.
ROOM = 1 << 28


class Kept:
    """What was loaded, by key, as far as there is room; each piece tells its ``nbytes``.

    Several threads may ask at once, one loads. After a fork, or in a process it was pickled to, it begins empty.
    """

    def __init__(self) -> None:
        self.clear()

    def __len__(self) -> int:
        """The number of pieces."""
        return len(self._pieces)

    def get(self, key: Hashable, load: Callable[[], Any]) -> Any:
        """Return the piece of a key; ``load()`` reads one that is not kept."""
        if self._process != os.getpid():  # a fork: perhaps a lock that nobody will give back
            self.clear()
        with self._lock:
            if key in self._pieces:
                self._pieces.move_to_end(key)
                return self._pieces[key]
            piece = self._pieces[key] = load()
            while len(self._pieces) > 1 and sum(one.nbytes for one in self._pieces.values()) > ROOM:
                self._pieces.popitem(last=False)
            return piece

    def clear(self) -> None:
        """Forget every piece."""
        self._pieces: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock, self._process = threading.Lock(), os.getpid()

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        return Kept, ()
