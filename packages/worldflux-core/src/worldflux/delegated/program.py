"""What is asked of an official program, and what running it takes: plain data, so that a supervisor needs no plugin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import ConfigurationError

FORMATS = ("jsonl", "csv", "lines")


@dataclass(frozen=True)
class Request:
    """One training that an official program shall do.

    ``config`` is our config of the preset ``model_id`` with the user's changes; ``training`` the ``TrainingConfig``
    fields the user set; ``options`` the program's own settings. ``env_steps`` counts environment steps, None leaves the
    program's default. ``folder`` (absolute, new) is where the program shall write.
    """

    model_id: str
    task: str
    folder: Path
    checkout: Path
    profile: str = ""
    env_steps: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MetricsSource:
    """Where a program writes its numbers, and what they are called here.

    ``path`` is a file below the program's folder, or "" for what it prints. ``format`` is "jsonl" (an object a line),
    "csv" (names in the first line) or "lines" (each line in which ``pattern``, a regular expression, is found; its
    named groups are the metrics). ``env_steps`` and ``step`` name the program's counters of environment steps and of
    updates; a record without them keeps the last known count. ``rename`` maps a name, or a prefix that ends in "/", to
    ours, or to None to leave it out; the longest one that fits counts.
    """

    path: str
    format: str = "jsonl"
    pattern: str = ""
    env_steps: str | None = None
    step: str | None = None
    rename: Mapping[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ConfigurationError(f"format is {self.format!r}, expected one of {', '.join(FORMATS)}")
        if (self.format == "lines") != bool(self.pattern):
            raise ConfigurationError("a pattern belongs to format 'lines', and 'lines' needs one")
        if self.pattern and not re.compile(self.pattern).groupindex:
            raise ConfigurationError(f"pattern {self.pattern!r} has no named group such as (?P<loss>...)")


@dataclass(frozen=True)
class Program:
    """How an official program is called: ``argv`` comes after the interpreter.

    ``cwd`` is where it starts (default: its folder); ``env`` is added to the environment. ``checkpoints`` is a glob
    below its folder; the newest match is the checkpoint, of those that hold a file ``complete``, where that is given.
    """

    argv: tuple[str, ...]
    metrics: tuple[MetricsSource, ...] = ()
    cwd: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    checkpoints: str = ""
    complete: str = ""
