"""Data against the contract, at the door."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .batch import Batch
from .errors import ShapeMismatchError, StateError, ValidationError, did_you_mean
from .payloads import WorldModelInput
from .spec import ModalityKind, ModalitySpec, ModelIOContract, ObservationSpec
from .state import State

__all__ = ["ShapeMismatchError", "batch", "observations", "state"]


def observations(obs: Any, spec: ObservationSpec) -> dict[str, Tensor]:
    """Return the named modalities of a tensor, a mapping or a WorldModelInput, each checked against its spec."""
    given = obs.observations if isinstance(obs, WorldModelInput) else obs
    if isinstance(given, Tensor):
        if len(spec.modalities) != 1:
            raise ValidationError(f"this model observes {sorted(spec.modalities)}: give a dict, not one tensor")
        given = {next(iter(spec.modalities)): given}
    if not isinstance(given, Mapping):
        raise ValidationError(f"observations must be a tensor or a dict of tensors, got {type(given).__name__}")
    missing, extra = sorted(set(spec.modalities) - set(given)), sorted(set(given) - set(spec.modalities))
    if missing:
        hint = did_you_mean(missing[0], extra)
        raise ValidationError(f"missing required modalities {missing}: got {sorted(given)}.{hint}")
    if extra:
        raise ValidationError(f"unexpected modalities {extra}: this model observes {sorted(spec.modalities)}")
    checked = {name: _tensor(name, given[name], modality) for name, modality in spec.modalities.items()}
    leads = {name: value.shape[: value.ndim - len(spec.modalities[name].shape)] for name, value in checked.items()}
    if len(set(leads.values())) > 1:
        raise ShapeMismatchError(f"modalities have different leading axes: { {n: tuple(s) for n, s in leads.items()} }")
    return checked


def _tensor(name: str, value: Any, spec: ModalitySpec) -> Tensor:
    if not isinstance(value, Tensor):
        raise ValidationError(f"observation {name!r} is a {type(value).__name__}, expected a Tensor")
    rank = len(spec.shape)
    if tuple(value.shape[value.ndim - rank :]) != spec.shape or value.ndim <= rank:
        hint = ""
        if spec.kind is ModalityKind.IMAGE and tuple(value.shape[-3:]) == (*spec.shape[1:], spec.shape[0]):
            hint = ": the data is channels-last, move the channels first with .movedim(-1, -3)"
        elif value.ndim == rank and tuple(value.shape) == spec.shape:
            hint = ": the batch axis is missing, add it with [None]"
        raise ShapeMismatchError(f"observation {name!r}{hint}", expected=("B", *spec.shape), got=tuple(value.shape))
    integer = spec.kind is ModalityKind.IMAGE or spec.dtype.startswith(("uint", "int"))
    allowed = value.is_floating_point() or (integer and str(value.dtype).removeprefix("torch.") == spec.dtype)
    if not allowed:
        raise ValidationError(
            f"observation {name!r} has dtype {value.dtype}, expected {spec.dtype} or a floating dtype"
        )
    return value


def batch(given: Batch, contract: ModelIOContract) -> None:
    """Raise ValidationError or ShapeMismatchError if a batch does not fit the contract."""
    for key in contract.required_batch_keys:
        value: Any = given
        for part in key.replace(":", ".").split("."):
            value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
        if value is None:
            raise ValidationError(f"the batch has no {key!r}; this model needs {list(contract.required_batch_keys)}")
    if given.obs is not None and contract.effective_input_spec.modalities:
        observations(given.obs, contract.effective_input_spec)
    spec = contract.action_spec
    if isinstance(given.actions, Tensor) and spec.kind not in ("none", "text"):
        indices = spec.kind == "discrete" and not given.actions.is_floating_point() and given.actions.ndim == 2
        if not indices and (given.actions.ndim < 3 or given.actions.shape[-1] != spec.dim):
            got = tuple(given.actions.shape)
            raise ShapeMismatchError(f"batch actions ({spec.kind})", expected=("B", "T", spec.dim), got=got)
    for name in ("rewards", "is_first", "is_last", "is_terminal", "mask"):
        value = getattr(given, name)
        if isinstance(value, Tensor) and value.ndim != 2:  # a further axis would broadcast into [B, B, T] or [T, T]
            raise ShapeMismatchError(f"batch {name}", expected=("B", "T"), got=tuple(value.shape))
    if isinstance(given.rewards, Tensor) and not bool(torch.isfinite(given.rewards).all()):
        row = torch.nonzero(~torch.isfinite(given.rewards))[0].tolist()
        raise ValidationError(f"rewards hold a non-finite value at [sequence, step] {row}")
    given.validate(sequence_field_spec=contract.effective_sequence_field_spec)


def state(given: State, contract: ModelIOContract) -> None:
    """Raise StateError or ShapeMismatchError if a state does not fit the contract."""
    given.validate()
    for key in contract.required_state_keys:
        if key not in given:
            raise StateError(f"the state has no {key!r}, it has {sorted(given.tensors)}")
    for name, spec in contract.state_spec.tensors.items():
        if name in given and tuple(given[name].shape[1:]) != spec.shape:
            got = tuple(given[name].shape)
            raise ShapeMismatchError(f"state tensor {name!r}", expected=("B", *spec.shape), got=got)
