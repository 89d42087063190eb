"""What ``create_world_model`` took under 0.1.1, as it is meant today."""

from __future__ import annotations

import warnings
from typing import Any

from worldflux.core.errors import ConfigurationError
from worldflux.core.legacy import API_VERSIONS, refuse


def of_today(given: dict[str, Any], api_version: str) -> dict[str, Any]:
    """Options of a model, whose 'hybrid' actions are continuous, as they were under 0.1.1; v3 refuses them.

    Raises ConfigurationError for an unknown ``api_version``, and warns of the old one.
    """
    if api_version not in API_VERSIONS:
        raise ConfigurationError(f"Unsupported api_version: {api_version}. Expected 'v0.2' or 'v3'.")
    if api_version == "v0.2":
        warnings.warn("api_version='v0.2' is deprecated, use 'v3'", DeprecationWarning, stacklevel=3)
    spec = given.get("action_spec") or {}
    if "hybrid" not in (given.get("action_type"), spec.get("kind")):
        return given
    refuse(api_version, "action kind 'hybrid' is gone: give one kind, or 'multi' with parts")
    return {**given, "action_spec": {**spec, "kind": "continuous"}, "action_type": "continuous"}
