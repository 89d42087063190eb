"""What the kernel asks of this package: names to classes, nothing else."""

from __future__ import annotations

from typing import Any

from worldflux.plugins.hookspecs import hookimpl

from .config import TDMPC2Config
from .model import TDMPC2


@hookimpl
def worldflux_register_models(registrar: Any) -> None:
    """Register the family."""
    registrar.add("tdmpc2", TDMPC2, config_type=TDMPC2Config)
