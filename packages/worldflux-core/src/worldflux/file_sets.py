"""Reading what was saved as several files, a page and those it names, while others may save over it.

Nobody waits for anybody: ``files.replacing`` puts the page in place first, so whoever found the same page before
and after reading has read files of one save.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from worldflux.core.errors import CheckpointError, WorldFluxError
from worldflux.files import content, finish, sha256, stages_of

MAX_READINGS = 10
T = TypeVar("T")


def steady(page: Path, read: Callable[[], tuple[T, Mapping[str, Path]]]) -> T:
    """What ``read`` gives, beside the places ``saved`` told it; it reads anew while somebody saves over the page.

    What a killed save left is then brought to its end, as far as this folder can be written to. Raises what ``read``
    raises, and CheckpointError if the page was another after every reading.
    """
    for _ in range(MAX_READINGS):
        before, hidden = content(page), set(page.parent.glob(".*"))
        try:
            value, places = read()
        except (WorldFluxError, OSError):
            if (before, hidden) == (content(page), set(page.parent.glob(".*"))):
                raise
            continue
        if content(page) == before:
            finish([page, *map(page.with_name, places)], page, before, places.values())
            return value
    raise CheckpointError(f"{page} was saved anew each of the {MAX_READINGS} times it was read: read it when that ends")


def saved(page: Path, digests: Mapping[str, Any]) -> dict[str, Path]:
    """Where the files are that a page names by their SHA-256: in their places, or still on their stages.

    Raises CheckpointError naming the first file that is missing, altered or outside of the page's folder.
    """
    return {name: _place(page, name, digest) for name, digest in digests.items()}


def _place(page: Path, name: str, digest: Any) -> Path:
    file = page.with_name(Path(name).name or "nothing")
    if file.name != name:
        raise CheckpointError(f"{page} names {name!r}, which is no plain file name")
    places = [place for place in (file, *stages_of(file)) if place.exists()]
    if not places:
        raise CheckpointError(f"{file} is missing")
    try:
        return next(place for place in places if sha256(place) == digest)
    except StopIteration:
        raise CheckpointError(f"{file} was altered or truncated: its hash differs from {page.name}") from None
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
