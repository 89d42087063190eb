"""Whether rows of two places are of one kind, as they must be in one dataset or one batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from worldflux.core.spec import ActionSpec, ModalitySpec


def difference(mine: Any, other: Any, what: Iterable[str]) -> tuple[str, str, str] | None:
    """Return the first property of ``what`` that differs, and either side's in words; None if all agree.

    Observations agree where shapes and dtypes do: what else a spec says, two formats say in two ways.
    """
    for name in what:
        one, two = in_words(getattr(mine, name)), in_words(getattr(other, name))
        if one != two:
            return name, one, two
    return None


def in_words(value: Any) -> str:
    """What rows are like: ``eye uint8 [3, 64, 64], state float32 [2]``, ``continuous of size 2``."""
    if isinstance(value, ActionSpec):
        parts = ", ".join(f"{part.name} {part.kind} {part.dim}" for part in value.parts)
        return f"{value.kind} of size {value.dim}" + (f" ({parts})" if parts else "")
    if isinstance(value, ModalitySpec):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {in_words(one)}" for name, one in sorted(value.items())) or "none"
    return str(value)
