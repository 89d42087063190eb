"""``--set KEY=VALUE``, as verbs have it that take options of something else."""

from __future__ import annotations

import ast
from typing import Any

from worldflux.core.errors import ConfigurationError


def assignments(pairs: list[str], *, option: str = "--set") -> dict[str, Any]:
    """Return ``KEY=VALUE`` pairs as a mapping; a value that reads as a Python literal is one, else text.

    Raises ConfigurationError for a pair without a key or ``=``.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ConfigurationError(f"{option} takes KEY=VALUE, got {pair!r}")
        found[key] = _literal(text)
    return found


def _literal(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
