"""Names that are easily taken for another: a slip of the finger away, or the same to the eye."""

from __future__ import annotations

import re


def looks(name: str) -> str:
    """What the eye sees of a name: no case, no ``-_.``, and letters that look alike as one."""
    return re.sub("[-_.]", "", name.lower()).replace("rn", "m").replace("vv", "w").replace("0", "o").replace("1", "l")


def one_slip(name: str, other: str) -> bool:
    """Whether one key more, less, another, or two swapped make one of the other; another digit is a version instead."""
    if len(other) < 4 or abs(len(name) - len(other)) > 1:
        return False
    start = next((n for n, (one, two) in enumerate(zip(name, other)) if one != two), min(len(name), len(other)))
    rest, wanted = name[start:], other[start:]
    another = rest[1:] == wanted[1:] and not (rest[:1].isdigit() and wanted[:1].isdigit())
    return another or wanted in (rest[1:], rest[1::-1] + rest[2:]) or rest == wanted[1:]
