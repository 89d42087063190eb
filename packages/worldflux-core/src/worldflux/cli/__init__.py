"""The ``worldflux`` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 fine, 1 a problem found, 2 a mistake in the call.

    A mistake of the caller is one line on stderr (with ``--json`` also an object on stdout); ``WORLDFLUX_DEBUG=1``
    lets the traceback through. Anything unforeseen is a fault of worldflux and keeps its traceback.
    """
    from .app import app
    from .output import report, speak_plainly

    args = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in args
    speak_plainly()
    try:
        # alone it prints mistakes itself; what was typed is for the verbs that keep it
        code = app(args=args, prog_name="worldflux", obj=tuple(args), standalone_mode=not as_json)
        sys.exit(code if isinstance(code, int) else 0)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if os.environ.get("WORLDFLUX_DEBUG", "0") not in ("", "0"):
            raise
        code = report(error, as_json=as_json)
        if code is None:
            raise
        sys.exit(code)


def without_working_directory() -> None:
    """Undo that ``python -m`` imports from the working directory first, which may be a stranger's run.

    The ``worldflux`` script does not, either.
    """
    if not getattr(sys.flags, "safe_path", False) and sys.path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]
