"""What the kernel asks of this package: names to classes, nothing else."""

from __future__ import annotations

from typing import Any

from worldflux.plugins import hookimpl

from .external import KINDS, External, ExternalConfig, pretrained
from .jepa import JEPA, JEPAConfig
from .vjepa2 import VJEPA2, VJEPA2Config
from .vjepa2_ac import VJEPA2AC, VJEPA2ACConfig


@hookimpl
def worldflux_register_models(registrar: Any) -> None:
    """Register the families."""
    registrar.add("jepa", JEPA, config_type=JEPAConfig)
    registrar.add("vjepa2", VJEPA2, config_type=VJEPA2Config)
    registrar.add("vjepa2-ac", VJEPA2AC, config_type=VJEPA2ACConfig)
    registrar.add("external", External, config_type=ExternalConfig)


@hookimpl
def worldflux_register_components(registrar: Any) -> None:
    """Register encoders that others trained, from where they are published."""
    for kind in KINDS.values():
        registrar.add(f"external.{kind.name}", "observation_encoder", pretrained(kind.hub))
