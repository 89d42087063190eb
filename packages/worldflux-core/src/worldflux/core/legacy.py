"""The bridge for ``api_version="v0.2"``: what v3 refuses, v0.2 warns about."""

from __future__ import annotations

import warnings
from typing import Any

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


def without_hybrid(given: dict[str, Any], api_version: str) -> dict[str, Any]:
    """Options of a model whose 'hybrid' actions are continuous, as they were under 0.1.1; v3 refuses them."""
    spec = given.get("action_spec") or {}
    if "hybrid" not in (spec.get("kind"), given.get("action_type")):
        return given
    refuse(api_version, "action kind 'hybrid' is gone: give one kind, or 'multi' with parts")
    return {**given, "action_spec": {**spec, "kind": "continuous"}, "action_type": "continuous"}


def horizon_of(plan: Any) -> int:
    """The horizon of a plan that does not say it: a tensor without axis H is one step, another as long as its first."""
    return plan.shape[0] if plan is not None and plan.ndim > 1 else 1
