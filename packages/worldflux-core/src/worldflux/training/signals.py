"""Being asked to stop: the first signal waits for the next safe point, the second does not."""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

GRACE = 5.0  # seconds that closing may take after a second SIGTERM
logger = logging.getLogger(__name__)


class Interrupted(Exception):
    """Something was left between two of its steps because a signal asked for it; it can go on from there."""


class StopSignals:
    """While entered, the first Ctrl-C or SIGTERM is remembered, for whoever asks; a second one of either ends at once.

    ``received`` is the first signal's name. The second raises KeyboardInterrupt or SystemExit wherever the program is,
    for what cannot obey the first. Entered inside another one it is that one, so a command, the run it makes and its
    training see the same signals. Outside the main thread Python delivers none, and nothing is installed. A process
    forked meanwhile ends by SIGTERM as if there were no such thing, and leaves Ctrl-C to its parent. On exit the
    earlier handlers are back.
    """

    def __init__(self) -> None:
        self._number: signal.Signals | None = None
        self._outer: StopSignals | None = None
        self._process = os.getpid()
        self._earlier: dict[signal.Signals, Any] = {}
        self._end: threading.Timer | None = None

    @property
    def received(self) -> str | None:
        """The name of the signal that asked to stop, or None."""
        number = self._asked
        return None if number is None else number.name

    @property
    def exit_code(self) -> int:
        """What a process that a signal ended exits with: 128 and the signal's number (0 without a signal)."""
        number = self._asked
        return 0 if number is None else 128 + number

    def check(self) -> None:
        """Raise Interrupted if a signal asked to stop: a safe point."""
        if self.received is not None:
            raise Interrupted(self.received)

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            outer = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
            if isinstance(outer, StopSignals) and outer._process == self._process:
                self._outer = outer
                return self
            for number in (signal.SIGINT, signal.SIGTERM):
                self._earlier[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._earlier = {}
        if self._end is not None:
            self._end.cancel()

    @property
    def _asked(self) -> signal.Signals | None:
        return self._number if self._outer is None else self._outer._asked

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker: whoever joins it waits until it has ended
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        name = signal.Signals(number).name
        if self._number is None:
            self._number = signal.Signals(number)
            _say(f"{name}: stopping at the next safe point; again, and it ends at once, without saving")
            return
        _say(f"{name} after {self.received}: ending at once; earlier checkpoints are whole")
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if self._end is None:  # closing an environment may hang as its step did
            self._end = threading.Timer(GRACE, os._exit, (128 + number,))
            self._end.daemon = True
            self._end.start()
        raise SystemExit(128 + number)


def _say(text: str) -> None:
    """Log from a thread: the one a signal interrupts may be writing to the same stream just now."""
    threading.Thread(target=logger.warning, args=(text,)).start()
