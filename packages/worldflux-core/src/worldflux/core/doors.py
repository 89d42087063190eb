"""The door: everything that comes into a model is checked here, once, and named where it is wrong."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from . import legacy
from .batch import Batch
from .errors import ConfigurationError, ShapeMismatchError, StateError, ValidationError, did_you_mean
from .payloads import ActionPayload, ConditionPayload, WorldModelInput
from .spec import ActionSpec, ModalityKind, ModalitySpec, ModelIOContract, ObservationSpec
from .state import State

_ROWS = ("rewards", "is_first", "is_last", "is_terminal", "mask")
_CONDITIONS = ("text_condition", "goal", "spatial", "camera_pose")


def precision() -> None:
    """Raise ConfigurationError where torch makes numbers of another precision than models are built and computed in."""
    if torch.get_default_dtype() != torch.float32:
        raise ConfigurationError(
            f"torch's default dtype is {torch.get_default_dtype()}, models are computed in torch.float32: call "
            "torch.set_default_dtype(torch.float32), and convert the data instead"
        )


def observations(
    obs: Any, spec: ObservationSpec, *, missing: bool = False, like: Tensor | None = None
) -> dict[str, Tensor]:
    """Return the named modalities of a tensor, a mapping or a WorldModelInput, each checked against its spec.

    ``missing`` lets minus infinity through, by which some families mark what was not seen. What comes out is on the
    device of ``like`` (a weight), and floats have its precision.
    """
    precision()
    given = obs.observations if isinstance(obs, WorldModelInput) else obs
    if isinstance(given, Tensor):
        if len(spec.modalities) != 1:
            raise ValidationError(f"this model observes {sorted(spec.modalities)}: give a dict, not one tensor")
        given = {next(iter(spec.modalities)): given}
    if not isinstance(given, Mapping):
        raise ValidationError(f"observations must be a tensor or a dict of tensors, got {type(given).__name__}")
    if given.keys() != spec.modalities.keys():
        absent, extra = sorted(set(spec.modalities) - set(given)), sorted(set(given) - set(spec.modalities))
        if not absent:
            raise ValidationError(f"unexpected modalities {extra}: this model observes {sorted(spec.modalities)}")
        hint = did_you_mean(absent[0], extra)
        raise ValidationError(f"missing required modalities {absent}: got {sorted(given)}.{hint}")
    seen = {name: _modality(name, given[name], one, missing) for name, one in spec.modalities.items()}
    if len(seen) > 1 and len(set((leads := leading(seen, spec)).values())) > 1:
        raise ShapeMismatchError(f"modalities have different leading axes: {leads}")
    return {name: _as_weights(value, like) for name, value in seen.items()}


def _modality(name: str, value: Any, spec: ModalitySpec, missing: bool) -> Tensor:
    if not isinstance(value, Tensor):
        raise ValidationError(f"observation {name!r} is a {type(value).__name__}, expected a Tensor")
    lead = value.ndim - len(spec.shape)
    if tuple(value.shape[max(lead, 0) :]) != spec.shape or lead < 1:
        hint = ""
        if spec.kind is ModalityKind.IMAGE and tuple(value.shape[-3:]) == (*spec.shape[1:], spec.shape[0]):
            hint = ": the data is channels-last, move the channels first with .movedim(-1, -3)"
        elif lead == 0 and tuple(value.shape) == spec.shape:
            hint = ": the batch axis is missing, add it with [None]"
        raise ShapeMismatchError(f"observation {name!r}{hint}", expected=("B", *spec.shape), got=tuple(value.shape))
    integer = spec.kind is ModalityKind.IMAGE or spec.dtype.startswith(("uint", "int", "bool"))
    if not value.is_floating_point() and not (integer and str(value.dtype).removeprefix("torch.") == spec.dtype):
        raise ValidationError(
            f"observation {name!r} has dtype {value.dtype}, expected {spec.dtype} or a floating dtype"
        )
    refuse_non_finite(f"observation {name!r}", value, missing=missing)
    return value


def leading(seen: Mapping[str, Tensor], spec: ObservationSpec) -> dict[str, tuple[int, ...]]:
    """The axes before each modality's own."""
    return {name: tuple(value.shape[: value.ndim - len(spec.modalities[name].shape)]) for name, value in seen.items()}


def refuse_other_axes(seen: Mapping[str, Tensor], spec: ObservationSpec, *names: str) -> None:
    """Raise ShapeMismatchError unless observations have just these axes before their own: B, or B and T."""
    for name, value in seen.items():
        if value.ndim - len(spec.modalities[name].shape) != len(names):
            expected, got = (*names, *spec.modalities[name].shape), tuple(seen[name].shape)
            raise ShapeMismatchError(f"observation {name!r}", expected=expected, got=got)


def _as_weights(value: Tensor, like: Tensor | None) -> Tensor:
    dtype, device = (torch.float32, value.device) if like is None else (like.dtype, like.device)
    if not value.is_floating_point() or value.dtype == dtype:
        return value if value.device == device else value.to(device)
    return value.to(device, dtype)


def refuse_non_finite(what: str, value: Tensor, *, missing: bool = False) -> None:
    """Raise ValidationError naming the first place that holds no number; inside a compiler nothing can be looked at."""
    if not value.is_floating_point() or value.is_meta or torch.compiler.is_compiling():
        return
    try:
        if math.isfinite(value.detach().sum().item()):  # the fastest look: a number that is none makes the sum one
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
        kind, action = action.kind, action.primary()
        if not any(kind == spec.kind or (spec.kind == "multi" and kind == "continuous") for spec in specs):
            accepted = [spec.kind for spec in specs]
            if len(specs) > 1:
                raise ValidationError(f"action kind {kind!r} did not match any action union variant {accepted}")
            raise ValidationError(f"action kind {kind!r} is incompatible with the model, which takes {accepted[0]!r}")
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
            raise ValidationError(
                f"discrete action out of range: {int(wrong[0])}, expected 0 <= action < {spec.dim} as an index"
            )
        return torch.nn.functional.one_hot(action.long(), spec.dim).float()
    if action.ndim == 0 or action.shape[-1] != spec.dim:
        message = f"action feature dim mismatch for {spec.kind!r} actions"
        raise ShapeMismatchError(message, expected=("...", spec.dim), got=tuple(action.shape))
    return action if action.is_floating_point() else action.float()


def state(given: Any, contract: ModelIOContract, *, dtype: torch.dtype | None = None) -> None:
    """Raise StateError or ShapeMismatchError if a state does not fit the contract; with ``dtype``, its floats, too."""
    precision()
    if not isinstance(given, State):
        raise StateError(f"expected a State, got a {type(given).__name__}: model.encode(obs) gives one")
    for name, value in given.tensors.items():
        if not isinstance(value, Tensor):
            raise StateError(f"state tensor {name!r} is a {type(value).__name__}, expected a Tensor [B, ...]")
    given.validate()
    for key in contract.required_state_keys:
        if key not in given:
            raise StateError(f"the state has no {key!r}, it has {sorted(given.tensors)}: is it another family's?")
    for name, spec in contract.state_spec.tensors.items():
        if name not in given:
            continue
        value = given[name]
        if tuple(value.shape[1:]) != spec.shape:
            raise ShapeMismatchError(f"state tensor {name!r}", expected=("B", *spec.shape), got=tuple(value.shape))
        if dtype is not None:
            _refuse_dtype(name, value, spec, dtype)
            refuse_non_finite(f"state tensor {name!r}", value)


def _refuse_dtype(name: str, value: Tensor, spec: ModalitySpec, dtype: torch.dtype) -> None:
    wanted = dtype if spec.dtype.startswith("float") else getattr(torch, spec.dtype)
    half = wanted.is_floating_point and value.dtype in (torch.bfloat16, torch.float16)  # of a mixed precision
    if value.dtype != wanted and not half:
        raise StateError(f"state tensor {name!r} is {value.dtype}, this model's is {wanted}: convert it with state.map")


def conditions(given: Any, contract: ModelIOContract, *, read: Collection[str], api_version: str) -> None:
    """Raise ValidationError for conditions that the model does not read (``read`` are those its parts do)."""
    if given is None:
        return
    if not isinstance(given, ConditionPayload):
        raise ValidationError(
            f"conditions is a {type(given).__name__}, expected ConditionPayload(goal=..., extras=...)"
        )
    known = {*contract.condition_spec.modalities, *read}
    for name in _CONDITIONS:
        if getattr(given, name) is not None and name not in known:
            message = f"this model reads no condition {name!r}, it reads {sorted(known) or 'none'}: leave it out"
            legacy.refuse(api_version, message)
    given.validate(
        allowed_extra_keys={*contract.effective_condition_extra_keys, *read},
        extra_schema=contract.condition_extras_schema,
        api_version=api_version,
    )


def batch(given: Any, contract: ModelIOContract, *, missing: bool = False, like: Tensor | None = None) -> Batch:
    """Return a batch that fits the contract, its observations by name ``[B, T, ...]`` and its actions flat.

    Raises ValidationError or ShapeMismatchError naming what is absent, of another shape or kind, or no number.
    """
    if not isinstance(given, Batch):
        raise ValidationError(f"expected a Batch, got a {type(given).__name__}: worldflux.data.as_batch makes one")
    for key in contract.required_batch_keys:
        value: Any = given
        for part in key.replace(":", ".").split("."):
            value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
        if value is None:
            raise ValidationError(f"the batch has no {key!r}; this model needs {list(contract.required_batch_keys)}")
    changed: dict[str, Any] = {}
    if given.obs is not None and contract.effective_input_spec.modalities:
        changed["obs"] = observations(given.obs, contract.effective_input_spec, missing=missing, like=like)
        refuse_other_axes(changed["obs"], contract.effective_input_spec, "B", "T")
    spec = contract.action_spec
    if given.actions is not None and spec.kind not in ("none", "text"):
        try:
            changed["actions"] = action_tensor(given.actions, (spec,))
        except ShapeMismatchError:
            changed["actions"] = given.actions
        if changed["actions"].ndim != 3 or changed["actions"].shape[-1] != spec.dim:
            got = tuple(given.actions.shape)
            raise ShapeMismatchError(f"batch actions ({spec.kind})", expected=("B", "T", spec.dim), got=got)
        refuse_non_finite("batch actions", changed["actions"], missing=missing)
        changed["actions"] = changed["actions"].to(torch.float32 if like is None else like.dtype)
    for name in _ROWS:
        value = getattr(given, name)
        if value is not None and not isinstance(value, Tensor):
            raise ValidationError(f"batch {name} is a {type(value).__name__}, expected a Tensor [B, T]")
        if value is not None and value.ndim != 2:  # a further axis would broadcast into [B, B, T] or [T, T]
            raise ShapeMismatchError(f"batch {name}", expected=("B", "T"), got=tuple(value.shape))
    if given.rewards is not None:
        refuse_non_finite("batch rewards", given.rewards)
        changed["rewards"] = given.rewards.to(torch.float32 if like is None else like.dtype)
    given.validate(sequence_field_spec=contract.effective_sequence_field_spec)
    ready = replace(given, **changed)
    return ready if like is None else ready.to(like.device)


def encoded(given: Any, name: str, width: int) -> Tensor:
    """The tensor ``name`` ``[..., width]`` that an encoder returned. Raises ConfigurationError for anything else."""
    value = given.get(name) if isinstance(given, State) else None
    if value is None or value.shape[-1:] != (width,):
        got = type(given).__name__ if not isinstance(given, State) else sorted(given.tensors)
        got = got if value is None else f"{name} of shape {tuple(value.shape)}"
        raise ConfigurationError(f"the observation encoder must return State({{{name!r}: [..., {width}]}}), got {got}")
    return value
