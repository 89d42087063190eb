"""A run's representation watched while it is trained, where its model names one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from worldflux.training import Callback, CollapseMonitor
from worldflux.training.collapse import representation_of

if TYPE_CHECKING:
    from worldflux.core.model import WorldModel

    from .experience import Experience
    from .settings import Settings


def monitors(
    model: WorldModel, settings: Settings, experience: Experience | None, *, given: Sequence[Callback]
) -> list[Callback]:
    """Return the monitor of a model's representation: none where it names none, or one is ``given``.

    It looks at rows of the data that is held out; where none is, at rows that are learned from.
    """
    if not representation_of(model) or any(isinstance(one, CollapseMonitor) for one in given):
        return []
    if experience is None:
        return [CollapseMonitor()]
    windows = experience.held_out_windows(boundary=settings.boundary, seed=settings.seed)
    return [CollapseMonitor(windows or experience.windows(boundary=settings.boundary, seed=settings.seed))]
