"""Recorded data without rewards: the options of a family that can learn without, chosen and said."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from worldflux.core.config import WorldModelConfig
from worldflux.data import Dataset

logger = logging.getLogger(__name__)


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
    found = {name: value for name, value in found.items() if name not in given}
    if found:
        told = ", ".join(f"{name} {value}" for name, value in found.items())
        logger.warning("the data has no rewards, so the model learns what is seen alone: %s", told)
    return found
