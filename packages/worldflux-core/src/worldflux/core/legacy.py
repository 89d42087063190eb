"""The bridge for ``api_version="v0.2"``: what v3 refuses, v0.2 warns about."""

from __future__ import annotations

import warnings

from .errors import ValidationError

API_VERSIONS = ("v3", "v0.2")


def refuse(api_version: str, message: str) -> None:
    """Raise ValidationError under v3; warn and let it pass under v0.2."""
    if api_version == "v3":
        raise ValidationError(message)
    warnings.warn(message, DeprecationWarning, stacklevel=3)
