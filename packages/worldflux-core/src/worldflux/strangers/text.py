"""Text of strangers: what files, metadata and exceptions say, made fit to be shown."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: What a terminal obeys, or a reader cannot see: control, format and ignorable characters, line separators, surrogates.
UNSEEN = (
    r"\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    r"\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)


def visible(text: str, keep: str = "") -> str:
    """The text with what is unseen escaped as Python does it (``\\u202e``), except for the characters to ``keep``."""
    return re.sub(f"[{UNSEEN}]", lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)


def say(error: BaseException, *, kind: bool = True, most: int | None = 500) -> str:
    """An exception on one line, as a traceback ends with it; without its ``kind``, only what it says, ``most`` of it.

    The exception may be of a stranger's class: what its ``str()`` raises counts for nothing.
    """
    name = type.__dict__["__name__"].__get__(type(error)) if kind else ""  # past any metaclass
    try:
        text = " ".join(str.split(f"{error}"))[:most]
    except BaseException:
        text = "(its text cannot be read)"
    return visible(": ".join(filter(None, (name, text))))


def some(names: Sequence[str], most: int = 50) -> str:
    """The list as Python writes it, or the first of a long one and how many more there are."""
    return f"{[*names[:most]]}" + (f" and {len(names) - most:,} more" if len(names) > most else "")
