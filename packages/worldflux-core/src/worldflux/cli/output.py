"""What the command prints: JSON alone on stdout, or text; errors as one line on stderr.

Names, descriptions and reasons come from files and packages of strangers. Cells of tables and values of fields keep to
one line; and whatever else is printed, by whoever, goes through ``Plain``, so that none of it moves the cursor, turns
the direction of reading, or hides.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Annotated, Any

import typer

from worldflux.core.errors import CapabilityError, ConfigurationError, PluginError, WorldFluxError
from worldflux.strangers.text import say as said, visible

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]

OK, PROBLEM, USAGE = 0, 1, 2
MANY = 50  # lines or names that are a page
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Plain:
    """A stream that shows what a terminal would obey or hide, escaped, and leaves colours out."""

    def __init__(self, stream: Any) -> None:
        self.rich_proxied_file = stream  # under this name rich looks for what it draws its live line on

    def write(self, text: str) -> int:
        shown = visible(_COLOUR.sub("", text).replace("\r\n", "\n").replace("\r", "\n"), keep="\n\t")
        encoding = getattr(self.rich_proxied_file, "encoding", None) or "utf-8"
        self.rich_proxied_file.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


def speak_plainly() -> None:
    """Put ``Plain`` before both streams, for the rest of the process: its last words may be a traceback."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is not None and not isinstance(getattr(sys, name), Plain):
            setattr(sys, name, Plain(getattr(sys, name)))


@contextmanager
def as_it_likes() -> Iterator[None]:
    """Let a plugin's own command print meanwhile what it likes, colours and all."""
    raw = [getattr(stream, "rich_proxied_file", stream) for stream in (sys.stdout, sys.stderr)]
    with redirect_stdout(raw[0]), redirect_stderr(raw[1]):
        yield


def live(text: str) -> None:
    """Show on a terminal what is going on, in one line that the next one replaces."""
    if sys.stderr.isatty():
        terminal = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
        terminal.write(f"\r\x1b[K{visible(text)}")
        terminal.flush()


def emit(data: Any, text: str, *, as_json: bool) -> None:
    """Print ``data`` as JSON, or else ``text``."""
    sys.stdout.write((json.dumps(_jsonable(data), indent=2, allow_nan=False) if as_json else text) + "\n")


def say(text: str) -> None:
    """Print a line about what is going on to stderr, where it never mixes with results."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return aligned columns; the last one is not padded."""
    cells = [[visible(str(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header) - 1)]
    lines = []
    for row in cells:
        columns = (cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True))
        lines.append("  ".join((*columns, row[-1])).rstrip())
    return "\n".join(lines)


def fields(values: Mapping[str, Any]) -> str:
    """Return ``name  value`` lines, leaving out what is empty, and of long lists the rest."""
    shown = {name: value for name, value in values.items() if value not in (None, "", [], {}, ())}
    width = max(map(len, shown), default=0)
    lines = []
    for name, value in shown.items():
        text = ", ".join(map(str, value[:MANY])) if isinstance(value, (list, tuple)) else str(value)
        more = f" and {len(value) - MANY:,} more" if isinstance(value, (list, tuple)) and len(value) > MANY else ""
        lines.append(f"{name.ljust(width)}  {visible(text)}{more}")
    return "\n".join(lines)


def report(error: Exception, *, as_json: bool) -> int | None:
    """Print an expected error and return its exit code; return None for one that nobody foresaw, for its traceback."""
    told = getattr(error, "format_message", None)  # by what typer raises, whichever click it has
    foreseen = told is not None or isinstance(error, (WorldFluxError, OSError))
    asked = isinstance(error, (ConfigurationError, CapabilityError))  # for what is not there, or cannot be done
    usage = told is not None or (asked and not isinstance(error, PluginError))
    message = said(error, kind=not foreseen, most=None) if told is None else visible(" ".join(told().split()))
    if foreseen:
        say(f"error: {message}")
    if as_json:
        code = getattr(error, "error_code", type(error).__name__)
        emit({"error": {"code": code, "message": message}}, "", as_json=True)
    return None if not foreseen else USAGE if usage else PROBLEM


def _jsonable(value: Any) -> Any:
    """Return ``value`` with mappings, sequences and paths as JSON has them, and no NaN or infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_jsonable(item) for item in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    return value if isinstance(value, (str, int, bool)) or value is None else str(value)


@contextmanager
def apart() -> Iterator[None]:
    """Send what environments, models and plugins print meanwhile to stderr: stdout is for results alone."""
    with redirect_stdout(sys.stderr):
        yield


@contextmanager
def narrated() -> Iterator[None]:
    """Let what worldflux logs meanwhile be read on stderr, and what others print too."""
    import logging  # here, because listing can do without

    logger, handler = logging.getLogger("worldflux"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.propagate = False  # others, such as dm_control's absl, may have a handler of their own above it
    logger.setLevel(logging.INFO)
    try:
        with apart():
            yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        logger.setLevel(level)
