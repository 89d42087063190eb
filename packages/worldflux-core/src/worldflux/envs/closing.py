"""Closing what others wrote: an end that fails loses nothing that was done before."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

logger = logging.getLogger(__name__)


class _Closes(Protocol):
    def close(self) -> object: ...


ClosesT = TypeVar("ClosesT", bound=_Closes)


@contextmanager
def closing(env: ClosesT) -> Iterator[ClosesT]:
    """Give an environment, or a vector of them, and close it in the end; what its ``close`` raises is logged."""
    try:
        yield env
    finally:
        close_all([env])


def close_all(envs: Sequence[_Closes]) -> None:
    """Close every one; one that raises is logged by its name, and the others are closed all the same."""
    failed: list[str] = []
    for env in envs:
        try:
            env.close()
        except Exception as error:  # whatever a simulator's end may raise
            failed.append(f"{type(env).__name__} raised in close: {type(error).__name__}: {error}")
    if failed:
        more = f" (the first of {len(failed)})" if len(failed) > 1 else ""
        logger.warning("%s%s; nothing is lost by that", failed[0], more)
