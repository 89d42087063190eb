"""What is wrong with observations, and with what is made of them, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from worldflux.core.errors import ConfigurationError, ShapeMismatchError, ValidationError, did_you_mean
from worldflux.core.spec import ModalityKind, ModalitySpec
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
