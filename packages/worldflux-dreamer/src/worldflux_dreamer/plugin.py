"""What the kernel asks of this package: names to classes, nothing else."""

from __future__ import annotations

from typing import Any

from worldflux.plugins import hookimpl

from .dreamerv3 import DreamerV3, DreamerV3Config
from .dreamerv3.official_program import OfficialDreamerV3
from .planet import PlaNet, PlaNetConfig


@hookimpl
def worldflux_register_models(registrar: Any) -> None:
    """Register the families."""
    registrar.add("dreamer", DreamerV3, config_type=DreamerV3Config)
    registrar.add("planet", PlaNet, config_type=PlaNetConfig)


@hookimpl
def worldflux_register_backends(registrar: Any) -> None:
    """Register the official program."""
    registrar.add(OfficialDreamerV3.id, OfficialDreamerV3)
