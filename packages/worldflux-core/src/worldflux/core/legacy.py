"""The bridge for ``api_version="v0.2"``: what v3 refuses, v0.2 warns about."""

from __future__ import annotations

import warnings

from .errors import ConfigurationError, ValidationError

API_VERSIONS = ("v3", "v0.2")


def check_api_version(api_version: str) -> None:
    """Raise ConfigurationError for an unknown version; warn for the old one."""
    if api_version not in API_VERSIONS:
        raise ConfigurationError(f"Unsupported api_version: {api_version}. Expected 'v0.2' or 'v3'.")
    if api_version == "v0.2":
        warnings.warn("api_version='v0.2' is deprecated, use 'v3'", DeprecationWarning, stacklevel=3)


def refuse(api_version: str, message: str) -> None:
    """Raise ValidationError under v3; warn and let it pass under v0.2."""
    if api_version == "v3":
        raise ValidationError(message)
    warnings.warn(message, DeprecationWarning, stacklevel=3)
