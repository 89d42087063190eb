"""The errors worldflux raises; a mistake by the caller is always also a ``ValueError``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class WorldFluxError(Exception):
    """Base of every error raised by worldflux."""

    error_code = "WF-E000"


class ConfigurationError(WorldFluxError, ValueError):
    """A name, option or combination of options that does not exist or cannot work."""

    error_code = "WF-C001"

    def __init__(self, message: str, *, config_name: str | None = None) -> None:
        super().__init__(f"[{config_name}] {message}" if config_name else message)
        self.config_name = config_name


class ModelNotFoundError(ConfigurationError):
    """No family, preset, alias or saved model answers to the name."""

    error_code = "WF-M001"


class PluginError(ConfigurationError):
    """A plugin that provides the requested id is rejected, blocked or failed to start."""

    error_code = "WF-P001"


class ValidationError(WorldFluxError, ValueError):
    """Data does not fit the model's contract."""

    error_code = "WF-V001"


class ShapeMismatchError(ValidationError):
    """A tensor has another shape than the contract states."""

    error_code = "WF-S001"

    def __init__(self, message: str, *, expected: Any = None, got: Any = None) -> None:
        details = "" if expected is None and got is None else f" (expected {expected}, got {got})"
        super().__init__(message + details)
        self.expected, self.got = expected, got


class StateError(ValidationError):
    """A state or trajectory is empty, inconsistent or not decodable."""

    error_code = "WF-S101"


class ContractValidationError(ValidationError):
    """A contract contradicts itself."""

    error_code = "WF-V002"


class CapabilityError(WorldFluxError, ValueError):
    """The model cannot do what was asked of it."""

    error_code = "WF-A001"


class BufferError(WorldFluxError, ValueError):
    """A replay holds too little, or was given rows it cannot store."""

    error_code = "WF-B001"


class CheckpointError(WorldFluxError, ValueError):
    """A saved model or checkpoint is missing, damaged, or of another kind."""

    error_code = "WF-K001"


class TrainingError(WorldFluxError, RuntimeError):
    """Training cannot go on: a non-finite loss, a failing environment, a batch that breaks the contract."""

    error_code = "WF-T001"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
