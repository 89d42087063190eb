"""Actions in the environment's own form: one, or one for each of several episodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from worldflux.core.errors import CapabilityError, ConfigurationError
from worldflux.core.spec import ActionSpec

from .spaces import Dict, Discrete, box, kind_of


def own_space(spec: ActionSpec) -> Any:
    """Return a model's actions as a space: classes as whole numbers from 0, numbers in [-1, 1], parts by name.

    Raises:
        CapabilityError: its actions are neither.
    """
    parts = {}
    for part in spec.leaves():
        if part.kind not in ("discrete", "continuous"):
            raise CapabilityError(f"an agent acts with discrete and continuous actions, the model's are {part.kind!r}")
        parts[part.name] = _space(part.kind, part.dim)
    if not parts:
        raise CapabilityError("this model takes no actions, so there is nothing for an agent to do")
    return Dict(spaces=parts) if spec.kind == "multi" else next(iter(parts.values()))


def check_actions(acted: ActionSpec, taken: ActionSpec) -> None:
    """Raise ConfigurationError if the environment's actions are not the model's."""
    if acted.leaves() != taken.leaves():
        raise ConfigurationError(
            f"the environment takes {_words(acted)}, the model was made for {_words(taken)}: an agent acts in "
            "environments like the one its model was trained in"
        )


def plain(space: Any, action: Any) -> Any:
    """Return one action of a space, with its ``Discrete`` values as ints."""
    kind = kind_of(space)
    if kind == "Dict":
        return {key: plain(child, action[key]) for key, child in space.spaces.items()}
    if kind == "Tuple":
        return tuple(plain(child, one) for child, one in zip(space.spaces, action, strict=True))
    return int(action) if kind == "Discrete" else action


def together(space: Any, actions: Sequence[Any]) -> Any:
    """Return N actions of a space in its form, with arrays ``[N, ...]``."""
    kind = kind_of(space)
    if kind == "Dict":
        return {key: together(child, [one[key] for one in actions]) for key, child in space.spaces.items()}
    if kind == "Tuple":
        return tuple(together(child, [one[i] for one in actions]) for i, child in enumerate(space.spaces))
    return np.stack([np.asarray(one, space.dtype) for one in actions])


def _space(kind: str, dim: int) -> Any:
    if kind == "discrete":
        return Discrete(shape=(), dtype=np.dtype(np.int64), n=dim, start=0)
    return box((dim,), "float32", low=-1.0, high=1.0)


def _words(spec: ActionSpec) -> str:
    return ", ".join(f"{part.name}: {part.dim} {part.kind}" for part in spec.leaves())
