"""Options of a model that follow from the recorded data it learns from: what its config says, chosen and told."""

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
    return _said(preferred, given, logging.INFO, "the model learns from recorded data alone")


def unrewarded_options(
    sets: Collection[Dataset], config: type[WorldModelConfig], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the options by which a family learns what is seen alone, where no set has rewards.

    They are what its config's ``unrewarded(ends=)`` says. Empty for a family without, for one that is told otherwise,
    and where a set has rewards: what has none is then refused where it is matched to the model.
    """
    chosen = getattr(config, "unrewarded", None)
    if chosen is None or any(one.has_rewards for one in sets):
        return {}
    found: dict[str, Any] = chosen(ends=any(bool(one.episodes.terminal.any()) for one in sets))
    if any(name in given and given[name] != value for name, value in found.items()):
        return {}
    why = "the data has no rewards, so the model learns what is seen alone"
    return _said(found, given, logging.WARNING, why)


def _said(options: Mapping[str, Any], given: Mapping[str, Any], level: int, why: str) -> dict[str, Any]:
    """The options that were not given, after they were told."""
    left = {name: value for name, value in options.items() if name not in given}
    if left:
        logger.log(level, "%s: %s", why, ", ".join(f"{name} {value}" for name, value in left.items()))
    return left
