"""What the command prints: JSON alone on stdout, or text; errors as one line on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Annotated, Any

import typer

from worldflux.core.errors import ConfigurationError, PluginError, WorldFluxError

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]

OK, PROBLEM, USAGE = 0, 1, 2


def emit(data: Any, text: str, *, as_json: bool) -> None:
    """Print ``data`` as JSON, or else ``text``."""
    sys.stdout.write((json.dumps(_jsonable(data), indent=2, allow_nan=False) if as_json else text) + "\n")


def say(text: str) -> None:
    """Print a line about what is going on to stderr, where it never mixes with results."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return aligned columns; the last one is not padded."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header) - 1)]
    lines = []
    for row in cells:
        columns = (cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True))
        lines.append("  ".join((*columns, row[-1])).rstrip())
    return "\n".join(lines)


def fields(values: Mapping[str, Any]) -> str:
    """Return ``name  value`` lines, leaving out what is empty."""
    shown = {name: value for name, value in values.items() if value not in (None, "", [], {}, ())}
    width = max(map(len, shown), default=0)
    lines = []
    for name, value in shown.items():
        text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        lines.append(f"{name.ljust(width)}  {text}")
    return "\n".join(lines)


def report(error: Exception, *, as_json: bool) -> int | None:
    """Print an expected error and return its exit code; return None for one that nobody foresaw."""
    told = getattr(error, "format_message", None)  # by what typer raises, whichever click it has
    if told is None and not isinstance(error, (WorldFluxError, OSError)):
        return None
    usage = told is not None or (isinstance(error, ConfigurationError) and not isinstance(error, PluginError))
    message = " ".join((str(error) if told is None else told()).split())
    say(f"error: {message}")
    if as_json:
        code = getattr(error, "error_code", type(error).__name__)
        emit({"error": {"code": code, "message": message}}, "", as_json=True)
    return USAGE if usage else PROBLEM


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
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with apart():
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
