"""Models from official weights, by the importers that plugins declare."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from worldflux.core.errors import ConfigurationError
from worldflux.core.events import announce
from worldflux.core.registry import WorldModelRegistry
from worldflux.files import expanded

if TYPE_CHECKING:
    from worldflux.core.model import WorldModel


def import_weights(source: Any, *, importer: str, config: Mapping[str, Any] | None = None) -> WorldModel:
    """Build our model from official weights.

    ``source`` is a file, a folder, or a mapping of official parameter names to arrays; ``importer`` an id such as
    "official-dreamerv3"; ``config`` the official settings where shapes do not tell them.

    Raises:
        ConfigurationError: no such importer, or (from the importer) weights and settings that do not fit.
    """
    if not isinstance(importer, str):
        raise ConfigurationError(
            f"importer is {importer!r}, expected the id of an importer such as 'official-dreamerv3'"
        )
    if not isinstance(config, Mapping | None):
        raise ConfigurationError(f"config is {config!r}, expected the official settings by name")
    found = expanded(source) if isinstance(source, (str, os.PathLike)) else source
    built: WorldModel = WorldModelRegistry.reach("importer", importer)(found, config=config)
    announce("model_created", built)
    return built
