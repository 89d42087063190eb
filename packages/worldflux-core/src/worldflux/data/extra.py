"""Packages of the extra ``data``, imported when something needs them."""

from __future__ import annotations

import importlib
from typing import Any

from worldflux.core.errors import ConfigurationError

_PACKAGES = {"PIL": "pillow"}


def need(module: str, what: str) -> Any:
    """Import a module of the extra ``data``. Raises ConfigurationError saying how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = _PACKAGES.get(module.split(".")[0], module.split(".")[0])
        raise ConfigurationError(
            f"{what} needs {package}, which is not installed: pip install 'worldflux-core[data]'"
        ) from error
