"""What environments tell beside observations, where they declare it: ``info_space``, a Dict space of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError, ShapeMismatchError, ValidationError
from worldflux.core.spec import ModalityKind, ModalitySpec

from .spaces import as_array, kind_of


class InfoAdapter:
    """Turns the infos of Gymnasium environments into arrays by name: those of ``info_space``, the others are dropped.

    Boxes of floats become float32 of their shape, everything else whole numbers, int64. ``spec`` is empty where an
    environment declares nothing.

    Raises:
        ConfigurationError: ``info_space`` is no Dict of boxes and discrete values, by name.
    """

    def __init__(self, env: Any) -> None:
        space = declared(env, "info_space")
        if space is not None and kind_of(space) != "Dict":
            raise ConfigurationError(f"info_space of {type(env).__name__} is {space}, expected a Dict space")
        children = {} if space is None else space.spaces
        self.spec: dict[str, ModalitySpec] = {name: _spec(name, one) for name, one in children.items()}

    def __call__(self, infos: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Return the infos of N environments as arrays ``[N, ...]``.

        Raises:
            ShapeMismatchError, ValidationError: an environment tells something else than it declares.
        """
        rows, specs = list(enumerate(infos)), self.spec.items()
        return {name: np.stack([_told(i, name, spec, info) for i, info in rows]) for name, spec in specs}


def declared(env: Any, name: str) -> Any:
    """Return what an environment, or one that it wraps, has as an attribute of this name; None if none has it."""
    while env is not None:  # down through the wrappers, each of which may declare its own
        if (found := getattr(env, name, None)) is not None:
            return found
        env = getattr(env, "env", None) or getattr(env, "_env", None)
    return None


def _spec(name: str, space: Any) -> ModalitySpec:
    kind = kind_of(space)
    if kind not in ("Box", "Discrete", "MultiBinary", "MultiDiscrete") or not np.prod(space.shape or ()):
        raise ConfigurationError(f"info_space has {name!r}: {space}, expected a Box of numbers or discrete values")
    floats = kind == "Box" and space.dtype.kind == "f"
    return ModalitySpec(ModalityKind.VECTOR, tuple(space.shape or ()), "float32" if floats else "int64", None, name)


def _told(i: int, name: str, spec: ModalitySpec, info: Mapping[str, Any]) -> np.ndarray:
    if name not in info:
        raise ValidationError(f"environment {i} gave no info {name!r}, which its info_space declares")
    value = as_array(info[name])
    if value.shape != spec.shape:
        raise ShapeMismatchError(
            f"environment {i}: info {name!r} is not of its space", expected=spec.shape, got=value.shape
        )
    if not np.can_cast(value.dtype, spec.dtype, "same_kind"):
        raise ValidationError(f"environment {i}: info {name!r} has dtype {value.dtype}, expected {spec.dtype}")
    return value.astype(spec.dtype)
