"""Actions and conditions in every form a caller may send them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from . import legacy
from .errors import ValidationError
from .registry import WorldModelRegistry
from .spec import modality, namespaced
from .state import register_pytree

PLANNER_HORIZON_KEY = "wf.planner.horizon"
PLANNER_SEQUENCE_KEY = "wf.planner.sequence"
PAYLOAD_KINDS = ("none", "continuous", "discrete", "token", "latent", "text", "hybrid")


@dataclass
class ActionPayload:
    """One action or plan: at most one of tensor, tokens, latent and text, and namespaced extras."""

    kind: str = "none"
    tensor: Tensor | None = None
    tokens: Tensor | None = None
    latent: Tensor | None = None
    text: list[str] | None = None
    extras: dict[str, Any] = field(default_factory=dict)

    def primary(self) -> Tensor | None:
        """The tensor that carries the action, if one does."""
        return next((value for value in (self.tensor, self.tokens, self.latent) if value is not None), None)

    def validate(self, *, api_version: str = "v3") -> None:
        """Raise ValidationError if the payload contradicts itself."""
        if self.kind not in PAYLOAD_KINDS:
            raise ValidationError(f"unknown action kind {self.kind!r}, expected one of {list(PAYLOAD_KINDS)}")
        if self.kind == "hybrid":
            legacy.refuse(api_version, "action kind 'hybrid' is gone: send one kind, or a 'multi' action spec")
        given = [n for n in ("tensor", "tokens", "latent", "text") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValidationError(f"an action has only one primary representation, got {given}")
        if self.kind == "none" and given:
            raise ValidationError(f"an action of kind 'none' carries no {given[0]}")


@dataclass
class ConditionPayload:
    """What a prediction is conditioned on besides state and action."""

    text_condition: Tensor | list[str] | None = None
    goal: Tensor | None = None
    spatial: Tensor | None = None
    camera_pose: Tensor | None = None
    extras: dict[str, Any] = field(default_factory=dict)

    def validate(
        self,
        *,
        allowed_extra_keys: tuple[str, ...] | set[str] | None = None,
        extra_schema: Mapping[str, Any] | None = None,
        strict: bool = False,
        api_version: str = "v3",
    ) -> None:
        """Raise ValidationError for extras that are not namespaced, not declared, or of another dtype or shape.

        Under v0.2 it warns where it is not ``strict``.
        """
        api_version = "v3" if strict else api_version
        allowed = self.extras if allowed_extra_keys is None else allowed_extra_keys
        if wrong := sorted(key for key in self.extras if not namespaced(key)):
            message = f"condition extras keys need the namespaced format wf.<domain>.<name>, got {wrong}"
            legacy.refuse(api_version, message)
        if unknown := sorted(set(self.extras) - set(allowed)):
            legacy.refuse(api_version, f"condition extras has undeclared keys {unknown}, allowed: {sorted(allowed)}")
        for key, given in (extra_schema or {}).items():
            spec, value, what = modality(key, given), self.extras.get(key), f"condition extra {key!r}"
            if not isinstance(value, Tensor):
                continue
            if str(value.dtype).removeprefix("torch.") != spec.dtype:
                legacy.refuse(api_version, f"{what} dtype mismatch: {value.dtype}, expected {spec.dtype}")
            shape = tuple(value.shape)
            if shape[len(shape) - len(spec.shape) :] != spec.shape:
                legacy.refuse(api_version, f"{what} shape mismatch: {shape} must end in {spec.shape}")


@dataclass
class ActionSequence:
    """A plan: a tensor ``[H, B, A]``, or one payload per step."""

    tensor: Tensor | None = None
    payloads: list[ActionPayload] | None = None

    def __len__(self) -> int:
        return self.tensor.shape[0] if self.tensor is not None else len(self.payloads or ())


@dataclass
class WorldModelInput:
    """Everything a model may be given at once."""

    observations: dict[str, Tensor] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    action: Tensor | ActionPayload | None = None
    conditions: ConditionPayload | None = None


Observations = Tensor | Mapping[str, Tensor] | WorldModelInput
Action = Tensor | ActionPayload | None

register_pytree(ActionPayload, ("tensor", "tokens", "latent", "extras"), ("kind", "text"))
register_pytree(ConditionPayload, ("text_condition", "goal", "spatial", "camera_pose", "extras"))
register_pytree(ActionSequence, ("tensor", "payloads"))
register_pytree(WorldModelInput, ("observations", "context", "action", "conditions"))


def normalize_planned_action(payload: ActionPayload, *, api_version: str = "v3") -> ActionSequence:
    """Return a plan as ``[H, B, A]``, reading the horizon from ``extras["wf.planner.horizon"]``.

    ``[A]``, ``[B, A]`` (horizon 1), ``[H, A]`` and ``[H, B, A]`` are understood. Raises ValidationError when the
    horizon is missing, not an integer of at least 1, or disagrees with the tensor.
    """
    rules = WorldModelRegistry.reach("integration", "contract_rules.plans")
    plan: ActionSequence = rules.planned(payload, api_version)
    return plan
