"""Importing code that may hang, end the process, or leave the streams and modules of the program in disorder."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

from worldflux.core.errors import PluginError

HANG_SECONDS = 30.0
SLOW_SECONDS = 10.0
log = logging.getLogger("worldflux.plugins")


@contextlib.contextmanager
def contained(who: str) -> Iterator[None]:
    """Keep the program's life, streams and modules while code is imported, show where it hangs, say if it was slow.

    ``who`` names the plugin whose code it is. Nothing in this process could safely stop it, and what else it does with
    Python is its own affair. Raises PluginError where the code would end the process.
    """
    started, streams, modules, leave = time.monotonic(), (sys.stdout, sys.stderr), dict(sys.modules), os._exit
    guarded = {(os.getpid(), threading.get_ident())}

    def refuse(status: int) -> NoReturn:
        if (os.getpid(), threading.get_ident()) in guarded:
            raise PluginError(f"it ends the process, by os._exit({status}), while it is imported")
        leave(status)  # another thread, a process it forked, or later

    with contextlib.suppress(AttributeError, ValueError, OSError):  # where there is a stderr to write to
        faulthandler.dump_traceback_later(HANG_SECONDS, file=sys.__stderr__ or 2)
    os._exit = refuse
    try:
        yield
    finally:
        guarded.clear()
        os._exit, (sys.stdout, sys.stderr) = leave, streams
        sys.modules.update({name: modules[name] for name in modules.keys() - sys.modules.keys()})
        faulthandler.cancel_dump_traceback_later()
        if (seconds := time.monotonic() - started) > SLOW_SECONDS:
            log.warning("plugin %s took %.0f s to start", who, seconds)
