"""What happens to models, told to whoever listens: those who train and save need not know them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

listeners: list[Callable[..., None]] = []


def announce(event: str, model: Any, **facts: Any) -> None:
    """Tell of a "model_created", or of a "checkpoint_saved" with its ``path``, of which plugins may take note.

    A "component_set" with its ``slot`` and ``part`` stays among us.
    """
    for listener in listeners:
        listener(event, model, **facts)
