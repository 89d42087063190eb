"""How many there are of something, in words."""

from __future__ import annotations


def counted(count: int, one: str, several: str | None = None) -> str:
    """Return ``1 row`` or ``1,024 rows``: ``several`` is by default ``one`` with an s behind it.

    What agrees with the noun goes with it: ``counted(n, "episode begins", "episodes begin")``.
    """
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"
