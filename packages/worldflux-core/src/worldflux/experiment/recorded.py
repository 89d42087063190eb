"""Learning from recorded data alone: the options of a family that knows better ones for it, chosen and said."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from worldflux.core.config import WorldModelConfig
from worldflux.data import Dataset

from .tasks import decisions

logger = logging.getLogger(__name__)


def recorded_options(
    sets: Collection[Dataset], config: type[WorldModelConfig], given: Mapping[str, Any], *, frame_skip: int = 1
) -> dict[str, Any]:
    """Return the options that a family's config prefers where nothing is tried out, ``recorded(episode_length=)``.

    ``episode_length`` is the most decisions of an episode. What was given stays. Empty for a family without.
    """
    chosen = getattr(config, "recorded", None)
    if chosen is None:
        return {}
    longest = max((int(one.episodes.lengths.max(initial=2)) for one in sets), default=2)
    preferred: dict[str, Any] = chosen(episode_length=decisions(longest, frame_skip))
    found = {name: value for name, value in preferred.items() if name not in given}
    if found:
        told = ", ".join(f"{name} {value}" for name, value in found.items())
        logger.info("the model learns from recorded data alone: %s", told)
    return found
