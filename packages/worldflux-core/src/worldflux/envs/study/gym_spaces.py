"""Gymnasium's spaces of environments for study."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium.spaces import Box, Dict

from worldflux.core.spec import ModalityKind, ModalitySpec


def dict_space(spec: Mapping[str, ModalitySpec], *, bound: float) -> Dict:
    """Return the space of what a spec describes: pictures, and vectors of numbers of at most ``bound``."""
    return Dict({name: _box(one, bound) for name, one in spec.items()})


def action_space() -> Box:
    """Return the space of actions."""
    return Box(-1, 1, (2,), np.float32)


def _box(spec: ModalitySpec, bound: float) -> Box:
    low, high = (0, 255) if spec.kind is ModalityKind.IMAGE else (-bound, bound)
    return Box(low, high, spec.shape, np.dtype(spec.dtype).type)
