"""What WorldFlux asks of this package: names to classes, nothing else."""

from __future__ import annotations

from typing import Any

from worldflux.plugins import hookimpl

from .conditioner import ZeroActionConditioner


@hookimpl
def worldflux_register_components(registrar: Any) -> None:
    """Register the component; the alias is data, so there is nothing to register for it."""
    registrar.add("minimal_plugin.zero_action_conditioner", "action_conditioner", ZeroActionConditioner)
