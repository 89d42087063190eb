"""Whether what is said of an action contradicts itself."""

from __future__ import annotations

from worldflux.core import legacy
from worldflux.core.errors import ContractValidationError, did_you_mean
from worldflux.core.spec import ActionSpec

ACTION_KINDS = ("none", "continuous", "discrete", "token", "latent", "text", "multi", "hybrid")


def check(spec: ActionSpec) -> None:
    """Raise ContractValidationError for an unknown kind, or sizes that are absent or contradict each other."""
    if spec.kind not in ACTION_KINDS:
        near = did_you_mean(str(spec.kind), ACTION_KINDS)
        raise ContractValidationError(f"unknown action kind {spec.kind!r}, expected one of {list(ACTION_KINDS)}.{near}")
    if spec.kind == "hybrid":
        legacy.refuse("v0.2", "action kind 'hybrid' is gone: give one kind, or 'multi' with parts")
    if spec.kind == "multi" and not spec.parts:
        raise ContractValidationError("action kind 'multi' needs its parts")
    if spec.dim < 0:
        raise ContractValidationError(f"action dim must not be negative, got {spec.dim}")
    if spec.discrete and spec.num_actions is None and spec.dim <= 0:
        raise ContractValidationError("discrete actions need num_actions or a positive dim")
    if spec.kind == "discrete" and spec.num_actions is not None and spec.dim not in (0, spec.num_actions):
        raise ContractValidationError(f"dim {spec.dim} contradicts num_actions {spec.num_actions}: give one")
