"""What the kernel asks of this package: names to classes, nothing else."""

from __future__ import annotations

from typing import Any

from worldflux.plugins.hookspecs import hookimpl

from .config import DreamerV3Config
from .model import DreamerV3


@hookimpl
def worldflux_register_models(registrar: Any) -> None:
    """Register the family."""
    registrar.add("dreamer", DreamerV3, config_type=DreamerV3Config)
