"""With how many threads a verb computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import typer

from worldflux.core.errors import ConfigurationError

ThreadsOption = Annotated[
    str | None,
    typer.Option(metavar="auto|N", help="Threads to compute with; auto: what is fastest (training), else one."),
]


def threads_asked(given: str | None) -> int | Literal["auto"] | None:
    """Return what ``--threads`` says. Raises ConfigurationError for anything but "auto" and numbers of at least 1."""
    if given is None or given == "auto":
        return given  # type: ignore[return-value]
    if not given.isdecimal() or int(given) < 1:
        raise ConfigurationError(f"--threads is {given!r}, expected auto or a number of at least 1")
    return int(given)


@contextmanager
def computing(threads: str | None) -> Iterator[None]:
    """Use as many threads meanwhile: one, unless a number is given. Loads torch."""
    asked = threads_asked(threads) or "auto"
    from worldflux.training.threads import using

    with using(asked):
        yield
