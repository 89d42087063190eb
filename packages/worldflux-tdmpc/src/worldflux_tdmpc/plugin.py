"""What the kernel asks of this package: names to classes, nothing else."""

from __future__ import annotations

from typing import Any

from worldflux.plugins import hookimpl

from .mbpo import MBPO, MBPOConfig
from .mbpo.termination import KNOWN
from .tdmpc2 import TDMPC2, TDMPC2Config
from .tdmpc2.official_program import OfficialTDMPC2


@hookimpl
def worldflux_register_models(registrar: Any) -> None:
    """Register the families."""
    registrar.add("tdmpc2", TDMPC2, config_type=TDMPC2Config)
    registrar.add("mbpo", MBPO, config_type=MBPOConfig)


@hookimpl
def worldflux_register_components(registrar: Any) -> None:
    """Register where known tasks end."""
    for name, function in KNOWN.items():
        registrar.add(name, "termination", function)


@hookimpl
def worldflux_register_backends(registrar: Any) -> None:
    """Register the official program."""
    registrar.add(OfficialTDMPC2.id, OfficialTDMPC2)
