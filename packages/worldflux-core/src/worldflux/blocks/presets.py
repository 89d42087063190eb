"""Presets as a package's manifest states them."""

from __future__ import annotations

import sys
from importlib import resources
from typing import Any

from worldflux.core.errors import ConfigurationError, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def preset_values(package: str, family: str, size: str) -> dict[str, Any]:
    """The config values of a preset in a package's ``worldflux.toml``; ``package`` may name a module inside it.

    Raises ConfigurationError naming the known families and sizes.
    """
    root = package.partition(".")[0]
    manifest = tomllib.loads(resources.files(root).joinpath("worldflux.toml").read_text(encoding="utf-8"))
    families = {model["id"]: model.get("presets", {}) for model in manifest.get("models", [])}
    if family not in families:
        near = did_you_mean(family, families)
        raise ConfigurationError(f"{root} declares no family {family!r}, it has {list(families)}.{near}")
    presets = families[family]
    if size not in presets:
        raise ConfigurationError(f"Unknown size: {size}. Available: {list(presets)}.{did_you_mean(size, presets)}")
    return dict(presets[size].get("config", {}))
