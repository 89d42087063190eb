"""What conditions and plans may carry."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from worldflux.core import legacy
from worldflux.core.doors import Doors, refuse_non_finite
from worldflux.core.errors import ShapeMismatchError, ValidationError
from worldflux.core.payloads import (
    PLANNER_HORIZON_KEY,
    PLANNER_SEQUENCE_KEY,
    ActionPayload,
    ActionSequence,
    ConditionPayload,
    normalize_planned_action,
)
from worldflux.core.spec import modality, namespaced

_CONDITIONS = ("text_condition", "goal", "spatial", "camera_pose")


def check_conditions(model: Doors, conditions: ConditionPayload) -> None:
    """Raise ValidationError for conditions that neither the model nor one of its parts (``reads``) reads."""
    if not isinstance(conditions, ConditionPayload):
        raise ValidationError(f"conditions is a {type(conditions).__name__}, expected ConditionPayload(goal=...)")
    contract = model.io_contract()
    read = {name for slot in model.slots for name in getattr(getattr(model, slot, None), "reads", ())}
    known = {*contract.condition_spec.modalities, *read}
    for name in _CONDITIONS:
        if getattr(conditions, name) is not None and name not in known:
            message = f"this model reads no condition {name!r}, it reads {sorted(known) or 'none'}: leave it out"
            legacy.refuse(model.api_version, message)
    conditions.validate(
        allowed_extra_keys={*contract.effective_condition_extra_keys, *read},
        extra_schema=contract.condition_extras_schema,
        api_version=model.api_version,
    )


def check_extras(
    extras: Mapping[str, Any], allowed: Collection[str], schema: Mapping[str, Any], api_version: str
) -> None:
    """Raise what ``ConditionPayload.validate`` raises, or warn under v0.2."""
    if wrong := sorted(key for key in extras if not namespaced(key)):
        message = f"condition extras keys need the namespaced format wf.<domain>.<name>, got {wrong}"
        legacy.refuse(api_version, message)
    if unknown := sorted(set(extras) - set(allowed)):
        legacy.refuse(api_version, f"condition extras has undeclared keys {unknown}, allowed: {sorted(allowed)}")
    for key, given in schema.items():
        spec, value, what = modality(key, given), extras.get(key), f"condition extra {key!r}"
        if not isinstance(value, Tensor):
            continue
        if str(value.dtype).removeprefix("torch.") != spec.dtype:
            legacy.refuse(api_version, f"{what} dtype mismatch: {value.dtype}, expected {spec.dtype}")
        shape = tuple(value.shape)
        if shape[len(shape) - len(spec.shape) :] != spec.shape:
            legacy.refuse(api_version, f"{what} shape mismatch: {shape} must end in {spec.shape}")


def actions_of_plan(model: Doors, plan: Tensor | ActionSequence | ActionPayload | None, batch_size: int) -> Tensor:
    """A plan in any form as actions ``[H, B, A]``. Raises ValidationError or ShapeMismatchError."""
    dim = model.io_contract().action_spec.dim
    if plan is None or (isinstance(plan, ActionSequence) and not len(plan)):
        return model.actions(torch.zeros(0, batch_size, dim))
    if isinstance(plan, ActionPayload):
        if plan.primary() is not None:  # its kind is checked, and class indices get their axis, before H and B
            plan = ActionPayload("continuous", model.actions(plan), extras=plan.extras)
        plan = normalize_planned_action(plan, api_version=model.api_version)
    if isinstance(plan, ActionSequence):
        steps = [model.actions(step, axes=2) for step in plan.payloads or ()]
        plan = torch.stack(steps) if plan.tensor is None else plan.tensor
    actions = model.actions(plan)
    if actions.ndim != 3 or actions.shape[1] not in (1, batch_size):
        raise ShapeMismatchError("rollout actions", expected=("H", batch_size, dim), got=tuple(actions.shape))
    refuse_non_finite("rollout actions", actions, missing=model.missing_is_neginf)
    return actions.expand(-1, batch_size, -1)


def planned(payload: ActionPayload, api_version: str) -> ActionSequence:
    """What ``normalize_planned_action`` returns, or raises."""
    payload.validate(api_version=api_version)
    if PLANNER_SEQUENCE_KEY in payload.extras:
        legacy.refuse(api_version, f"{PLANNER_SEQUENCE_KEY!r} was removed in v0.3: put the plan into the tensor")
    tensor, horizon = payload.primary(), payload.extras.get(PLANNER_HORIZON_KEY)
    if horizon is None:
        legacy.refuse(api_version, f"Missing required planner metadata: missing extras[{PLANNER_HORIZON_KEY!r}]")
        horizon = _horizon_of(tensor)
    if isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1:
        raise ValidationError(f"{PLANNER_HORIZON_KEY!r} must be an integer of at least 1, got {horizon!r}")
    if tensor is None:
        if horizon > 1:
            raise ValidationError(f"a plan of horizon {horizon} needs a tensor [H, B, A]")
        return ActionSequence(payloads=[payload])
    if horizon == 1 and tensor.ndim in (1, 2):
        return ActionSequence(tensor=tensor.reshape(1, -1, tensor.shape[-1]))
    if tensor.ndim < 2 or tensor.shape[0] != horizon:
        raise ValidationError(f"Horizon mismatch: the plan says {horizon}, its tensor is {tuple(tensor.shape)}")
    return ActionSequence(tensor=tensor.unsqueeze(1) if tensor.ndim == 2 else tensor)


def _horizon_of(plan: Tensor | None) -> int:
    """The horizon of a plan that does not say it: a tensor without axis H is one step, another as long as its first."""
    return plan.shape[0] if plan is not None and plan.ndim > 1 else 1
