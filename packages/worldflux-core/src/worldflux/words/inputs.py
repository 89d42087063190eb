"""What is wrong with what comes into a model, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from worldflux.core.errors import ConfigurationError, ShapeMismatchError, ValidationError, did_you_mean
from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec
from worldflux.core.state import State


def other_modalities(given: Mapping[str, Any], specs: Mapping[str, ModalitySpec]) -> ValidationError:
    """Observations have other names than the model's."""
    absent, extra = sorted(set(specs) - set(given)), sorted(set(given) - set(specs))
    if not absent:
        return ValidationError(f"unexpected modalities {extra}: this model observes {sorted(specs)}")
    hint = did_you_mean(absent[0], extra)
    return ValidationError(f"missing required modalities {absent}: got {sorted(given)}.{hint}")


def other_shape(name: str, value: Tensor, spec: ModalitySpec) -> ShapeMismatchError:
    """An observation does not end in its modality's shape, or has no batch axis before it."""
    hint = ""
    if spec.kind is ModalityKind.IMAGE and tuple(value.shape[-3:]) == (*spec.shape[1:], spec.shape[0]):
        hint = ": the data is channels-last, move the channels first with .movedim(-1, -3)"
    elif tuple(value.shape) == spec.shape:
        hint = ": the batch axis is missing, add it with [None]"
    expected = ("B", *spec.shape)
    return ShapeMismatchError(f"observation {name!r}{hint}", expected=expected, got=tuple(value.shape))


def other_encoding(given: Any, name: str, width: int) -> ConfigurationError:
    """An observation encoder returns something else than ``name`` ``[..., width]``."""
    value = given.get(name) if isinstance(given, State) else None
    got = sorted(given.tensors) if isinstance(given, State) else type(given).__name__
    got = got if value is None else f"{name} of shape {tuple(value.shape)}"
    return ConfigurationError(f"the observation encoder must return State({{{name!r}: [..., {width}]}}), got {got}")


def other_kind(kind: str, specs: Sequence[ActionSpec]) -> ValidationError:
    """A payload's kind is none that the model takes."""
    accepted = [spec.kind for spec in specs]
    if len(specs) > 1:
        return ValidationError(f"action kind {kind!r} did not match any action union variant {accepted}")
    return ValidationError(f"action kind {kind!r} is incompatible with the model, which takes {accepted[0]!r}")


def no_class(index: int, spec: ActionSpec) -> ValidationError:
    """A discrete action's index names none of the classes."""
    return ValidationError(f"discrete action out of range: {index}, expected 0 <= action < {spec.dim} as an index")


def other_precision() -> ConfigurationError:
    """Torch makes numbers of another precision than models are built and computed in."""
    return ConfigurationError(
        f"torch's default dtype is {torch.get_default_dtype()}, models are computed in torch.float32: call "
        "torch.set_default_dtype(torch.float32), and convert the data instead"
    )
