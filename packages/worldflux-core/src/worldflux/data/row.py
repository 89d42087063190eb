"""What a row of experience is, in a replay as in recorded data: its flags, its specs, and what counts rows, checked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionSpec, ModalitySpec

FLAGS = ("is_first", "is_last", "is_terminal")
LARGE = 1024  # bytes from which an array of a row is stored by itself and copied as slices


def check_specs(obs_spec: object, action_spec: object) -> None:
    """Raise ConfigurationError for what does not say what rows hold."""
    if not isinstance(obs_spec, Mapping) or not all(isinstance(spec, ModalitySpec) for spec in obs_spec.values()):
        raise ConfigurationError(f"obs_spec is {obs_spec!r}, expected ModalitySpecs by name, such as env.obs_spec")
    if not isinstance(action_spec, ActionSpec):
        raise ConfigurationError(f"action_spec is {action_spec!r}, expected an ActionSpec such as env.action_spec")


def check_whole(name: str, value: object, least: int) -> None:
    """Raise ConfigurationError unless ``value`` is a whole number of at least ``least`` that machines can count to."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or not least <= int(value) < 2**48:  # type: ignore[call-overload]
        raise ConfigurationError(
            f"{name} must be a whole number{f' of at least {least}' if least else ''}, got {value!r}"
        )
