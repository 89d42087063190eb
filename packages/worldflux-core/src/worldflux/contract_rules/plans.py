"""What a plan may be, and what it is as a tensor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from worldflux.core import legacy
from worldflux.core.doors import Doors
from worldflux.core.errors import ValidationError
from worldflux.core.payloads import (
    PLANNER_HORIZON_KEY,
    PLANNER_SEQUENCE_KEY,
    ActionPayload,
    ActionSequence,
    normalize_planned_action,
)


def tensor_of_plan(model: Doors, plan: Any, batch_size: int) -> Any:
    """The tensor ``[H, B, A]`` of a plan in another form; its shape, and what is no plan, are judged after.

    Raises ValidationError for a payload or a step that the model does not take.
    """
    if plan is None or (isinstance(plan, ActionSequence) and not len(plan)):
        return torch.zeros(0, batch_size, model.io_contract().action_spec.dim)
    if isinstance(plan, ActionPayload):
        if plan.primary() is not None:  # its kind is checked, and class indices get their axis, before H and B
            plan = ActionPayload("continuous", model.actions(plan), extras=plan.extras)
        plan = normalize_planned_action(plan, api_version=model.api_version)
    if isinstance(plan, ActionSequence):
        steps = [model.actions(step, axes=2) for step in plan.payloads or ()]
        plan = torch.stack(steps) if plan.tensor is None else plan.tensor
    return plan


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
