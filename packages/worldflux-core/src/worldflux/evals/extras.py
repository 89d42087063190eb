"""Optional packages, asked for by name with the way to get them."""

from __future__ import annotations

import importlib
from types import ModuleType

from worldflux.core.errors import ConfigurationError


def require_viz(module: str, purpose: str) -> ModuleType:
    """Import ``module`` of the extra ``viz``.

    Raises:
        ConfigurationError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = {"PIL": "pillow"}.get(module.split(".")[0], module.split(".")[0])
        raise ConfigurationError(
            f"{purpose} needs {package}, which is not installed: pip install 'worldflux-core[viz]'"
        ) from error
