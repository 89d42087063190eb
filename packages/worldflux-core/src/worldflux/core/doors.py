"""The door: everything that comes into a model is checked here, once, and named where it is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from . import legacy
from .batch import Batch
from .errors import ConfigurationError, ShapeMismatchError, StateError, ValidationError
from .payloads import Action, ActionPayload, ActionSequence, ConditionPayload, Observations, WorldModelInput
from .persistence import Saved
from .registry import WorldModelRegistry
from .spec import ActionSpec, ModalityKind, ModalitySpec
from .state import State

_ROWS = ("rewards", "is_first", "is_last", "is_terminal", "mask")
_CONDITIONS = ("text_condition", "goal", "spatial", "camera_pose")
_NO_WEIGHT = torch.empty(0)


class Doors(Saved):
    """What every model asks of what comes in, by its contract; what comes out is on its weights' device."""

    slots: ClassVar[Mapping[str, str]] = {}
    missing_is_neginf: bool = False  # whether minus infinity in observations and actions marks what is missing

    def observations(self, obs: Observations) -> dict[str, Tensor]:
        """Return the named modalities ``[..., *shape]``; tensors, dicts and WorldModelInput all come through here.

        What comes out is on the weights' device. Raises ValidationError for missing or extra modalities, a wrong dtype
        or a number that is none, ShapeMismatchError for a shape.
        """
        precision()
        specs = self.io_contract().effective_input_spec.modalities
        given = obs.observations if isinstance(obs, WorldModelInput) else obs
        if isinstance(given, Tensor):
            if len(specs) != 1:
                raise ValidationError(f"this model observes {sorted(specs)}: give a dict, not one tensor")
            given = dict.fromkeys(specs, given)
        if not isinstance(given, Mapping):
            raise ValidationError(f"observations must be a tensor or a dict of tensors, got {type(given).__name__}")
        if given.keys() != specs.keys():
            raise WorldModelRegistry.reach("integration", "words.inputs").other_modalities(given, specs)
        leads = {name: self._leading(name, given[name], spec) for name, spec in specs.items()}
        if len(leads) > 1 and len(set(leads.values())) > 1:
            shown = {name: tuple(axes) for name, axes in leads.items()}
            raise ShapeMismatchError(f"modalities have different leading axes: {shown}")
        like = self._like()
        floats = {name for name in specs if given[name].is_floating_point()}
        return {name: given[name].to(like if name in floats else like.device) for name in specs}

    def _seen(self, obs: Observations, lead: str) -> dict[str, Tensor]:
        """Observations with just the axes ``lead`` before their own: "B", or "BT"."""
        seen, specs = self.observations(obs), self.io_contract().effective_input_spec.modalities
        for name, value in seen.items():
            if value.ndim - len(specs[name].shape) != len(lead) or not value.numel():
                expected, got = (*lead, *specs[name].shape), tuple(value.shape)
                raise ShapeMismatchError(f"observation {name!r}", expected=expected, got=got)
        return seen

    def _leading(self, name: str, value: Any, spec: ModalitySpec) -> torch.Size:
        """The axes before a modality's own, of what is one."""
        if not isinstance(value, Tensor):
            raise ValidationError(f"observation {name!r} is a {type(value).__name__}, expected a Tensor")
        lead = value.ndim - len(spec.shape)
        if tuple(value.shape[max(lead, 0) :]) != spec.shape or lead < 1:
            raise WorldModelRegistry.reach("integration", "words.inputs").other_shape(name, value, spec)
        integer = spec.kind is ModalityKind.IMAGE or spec.dtype.startswith(("uint", "int", "bool"))
        if not value.is_floating_point() and not (integer and str(value.dtype).removeprefix("torch.") == spec.dtype):
            raise ValidationError(
                f"observation {name!r} has dtype {value.dtype}, expected {spec.dtype} or a floating dtype"
            )
        refuse_non_finite(f"observation {name!r}", value, missing=self.missing_is_neginf)
        return value.shape[:lead]

    def actions(self, action: Action, *, axes: int = 3) -> Tensor:
        """Return an action as the flat tensor ``[..., A]``, with the weights' dtype and device.

        Integers with ``axes`` axes, the last of size A, are one-hot, others indices of classes. Raises ValidationError
        or ShapeMismatchError.
        """
        specs = self.io_contract().effective_action_specs
        return action_tensor(action, specs, axes=axes, api_version=self.api_version).to(self._like())

    def action_sequence(self, plan: Tensor | ActionSequence | ActionPayload | None, *, batch_size: int) -> Tensor:
        """Return a plan in any form as actions ``[H, B, A]``."""
        given: Any = plan
        if not isinstance(plan, Tensor):
            rules = WorldModelRegistry.reach("integration", "contract_rules.plans")
            given = rules.tensor_of_plan(self, plan, batch_size)
        actions = self.actions(given)
        if actions.ndim != 3 or actions.shape[1] not in (1, batch_size):
            expected = ("H", batch_size, self.io_contract().action_spec.dim)
            raise ShapeMismatchError("rollout actions", expected=expected, got=tuple(actions.shape))
        refuse_non_finite("rollout actions", actions, missing=self.missing_is_neginf)
        return actions.expand(-1, batch_size, -1)

    def _step_action(self, state: State, action: Action) -> Tensor:
        flat = self.actions(action, axes=2)
        if flat.shape == (0,):  # a model without actions was given none
            flat = flat.expand(state.batch_size, 0)
        if flat.ndim != 2 or flat.shape[0] != state.batch_size:
            expected = (state.batch_size, self.io_contract().action_spec.dim)
            raise ShapeMismatchError("action for this state", expected=expected, got=tuple(flat.shape))
        refuse_non_finite("action", flat, missing=self.missing_is_neginf)
        return flat

    def check_state(self, state: State) -> None:
        """Raise StateError, ShapeMismatchError or ValidationError for a state that is another model's or not finite."""
        self.validate_state_contract(state)
        floats = self._like().dtype
        for name, spec in self.io_contract().state_spec.tensors.items():
            if (value := state.get(name)) is None:
                continue
            wanted = floats if spec.dtype.startswith("float") else getattr(torch, spec.dtype)
            half = wanted.is_floating_point and value.dtype in (torch.bfloat16, torch.float16)  # of a mixed precision
            if value.dtype != wanted and not half:
                what = f"state tensor {name!r} is {value.dtype}, this model's is {wanted}"
                raise StateError(f"{what}: convert it with state.map")
            refuse_non_finite(f"state tensor {name!r}", value)

    def validate_state_contract(self, state: State) -> None:
        """Raise StateError or ShapeMismatchError if a state lacks a tensor or has other shapes than declared."""
        precision()
        if not isinstance(state, State):
            raise StateError(f"expected a State, got a {type(state).__name__}: model.encode(obs) gives one")
        for name, value in state.tensors.items():
            if not isinstance(value, Tensor):
                raise StateError(f"state tensor {name!r} is a {type(value).__name__}, expected a Tensor [B, ...]")
        state.validate()
        contract = self.io_contract()
        for key in contract.required_state_keys:
            if key not in state:
                raise StateError(f"the state has no {key!r}, it has {sorted(state.tensors)}: is it another family's?")
        for name, spec in contract.state_spec.tensors.items():
            if name in state and tuple(state[name].shape[1:]) != spec.shape:
                expected, got = ("B", *spec.shape), tuple(state[name].shape)
                raise ShapeMismatchError(f"state tensor {name!r}", expected=expected, got=got)

    def check_conditions(self, conditions: ConditionPayload | None) -> None:
        """Raise ValidationError for conditions that neither the model nor one of its parts (``reads``) reads."""
        if conditions is None:
            return
        if not isinstance(conditions, ConditionPayload):
            raise ValidationError(f"conditions is a {type(conditions).__name__}, expected ConditionPayload(goal=...)")
        contract = self.io_contract()
        read = {name for slot in self.slots for name in getattr(getattr(self, slot, None), "reads", ())}
        known = {*contract.condition_spec.modalities, *read}
        for name in _CONDITIONS:
            if getattr(conditions, name) is not None and name not in known:
                message = f"this model reads no condition {name!r}, it reads {sorted(known) or 'none'}: leave it out"
                legacy.refuse(self.api_version, message)
        conditions.validate(
            allowed_extra_keys={*contract.effective_condition_extra_keys, *read},
            extra_schema=contract.condition_extras_schema,
            api_version=self.api_version,
        )

    def checked(self, batch: Batch) -> Batch:
        """Return a batch to learn from: observations by name ``[B, T, ...]``, actions flat ``[B, T, A]``.

        Raises ValidationError or ShapeMismatchError if it lacks a key, has other shapes or dtypes than declared, or
        holds a number that is none.
        """
        if not isinstance(batch, Batch):
            raise ValidationError(f"expected a Batch, got a {type(batch).__name__}: worldflux.data.as_batch makes one")
        contract, like, ready = self.io_contract(), self._like(), dict[str, Any]()
        for key in contract.required_batch_keys:
            value: Any = batch
            for part in key.replace(":", ".").split("."):
                value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
            if value is None:
                needs = list(contract.required_batch_keys)
                raise ValidationError(f"the batch has no {key!r}; this model needs {needs}")
        if batch.obs is not None and contract.effective_input_spec.modalities:
            ready["obs"] = self._seen(batch.obs, "BT")
        if batch.actions is not None and contract.action_spec.kind not in ("none", "text"):
            ready["actions"] = self._batch_actions(batch.actions, contract.action_spec)
        for name in _ROWS:
            value = getattr(batch, name)
            if value is not None and not isinstance(value, Tensor):
                raise ValidationError(f"batch {name} is a {type(value).__name__}, expected a Tensor [B, T]")
            if value is not None and value.ndim != 2:  # a further axis would broadcast into [B, B, T] or [T, T]
                raise ShapeMismatchError(f"batch {name}", expected=("B", "T"), got=tuple(value.shape))
        if batch.rewards is not None:
            refuse_non_finite("batch rewards", batch.rewards)
            ready["rewards"] = batch.rewards.to(like.dtype)
        batch.validate(sequence_field_spec=contract.effective_sequence_field_spec)
        return replace(batch, **ready).to(like.device)

    def _batch_actions(self, given: Tensor, spec: ActionSpec) -> Tensor:
        try:
            flat = self.actions(given)
        except ShapeMismatchError:
            flat = given
        if flat.ndim != 3 or flat.shape[-1] != spec.dim:
            expected, got = ("B", "T", spec.dim), tuple(given.shape)
            raise ShapeMismatchError(f"batch actions ({spec.kind})", expected=expected, got=got)
        refuse_non_finite("batch actions", flat, missing=self.missing_is_neginf)
        return flat

    validate_batch_contract = checked  # the earlier name

    def _like(self) -> Tensor:
        """A weight: what comes in gets its dtype and device."""
        return next(self.parameters(), _NO_WEIGHT)


def checked_device(device: Any) -> torch.device:
    """The device that is meant. Raises ConfigurationError if there is none of that name here."""
    try:
        return torch.empty(0, device=torch.device(device)).device
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"device {device!r} is not a torch device such as 'cpu' here: {reason}") from error


def precision() -> None:
    """Raise ConfigurationError where torch makes numbers of another precision than models are built and computed in."""
    if torch.get_default_dtype() != torch.float32:
        raise WorldModelRegistry.reach("integration", "words.inputs").other_precision()


def refuse_non_finite(what: str, value: Tensor, *, missing: bool = False) -> None:
    """Raise ValidationError naming the first place that holds no number; inside a compiler nothing can be looked at."""
    if not value.is_floating_point() or value.is_meta or torch.compiler.is_compiling():
        return
    try:
        if math.isfinite(value.sum().item()):  # the fastest look: a number that is none makes the sum one
            return
    except RuntimeError:  # inside vmap, too
        return
    good = torch.isfinite(value) | value.isneginf() if missing else torch.isfinite(value)
    if bool(good.all()):
        return
    place = torch.nonzero(~good)[0].tolist()
    raise ValidationError(f"{what} is not finite at {place}: {float(value[tuple(place)])}; repair the data there")


def action_tensor(action: Any, specs: tuple[ActionSpec, ...], *, axes: int = 3, api_version: str = "v3") -> Tensor:
    """Return an action as the contract's flat float tensor ``[..., A]``.

    A single discrete action may be class indices (integers, without the last axis) or one-hot (floats or booleans;
    integers where they have the ``axes`` of a flat action). Raises ValidationError if the payload's kind fits no spec
    or an index is out of range, ShapeMismatchError if the last axis has another size.
    """
    kind = None
    if isinstance(action, ActionPayload):
        action.validate(api_version=api_version)
        kind, action = action.kind.replace("hybrid", "continuous"), action.primary()
        if not any(kind == spec.kind or (spec.kind == "multi" and kind == "continuous") for spec in specs):
            raise WorldModelRegistry.reach("integration", "words.inputs").other_kind(kind, specs)
    spec = next((s for s in specs if s.kind == kind), specs[0])
    if action is None:
        if spec.kind == "none":
            return torch.zeros(0)
        raise ValidationError(f"no action given, the model takes {spec.kind!r} actions of size {spec.dim}")
    if not isinstance(action, Tensor):
        raise ValidationError(f"an action must be a Tensor or an ActionPayload, got {type(action).__name__}")
    one_hot = action.is_floating_point() or action.dtype == torch.bool
    one_hot = one_hot or (action.ndim == axes and action.shape[-1] == spec.dim)
    if spec.kind == "discrete" and not one_hot:
        wrong = action[(action < 0) | (action >= spec.dim)]
        if wrong.numel():
            raise WorldModelRegistry.reach("integration", "words.inputs").no_class(int(wrong[0]), spec)
        return torch.nn.functional.one_hot(action.long(), spec.dim).float()
    if action.ndim == 0 or action.shape[-1] != spec.dim:
        message = f"action feature dim mismatch for {spec.kind!r} actions"
        raise ShapeMismatchError(message, expected=("...", spec.dim), got=tuple(action.shape))
    return action if action.is_floating_point() else action.float()
