"""Every check of the conformance kit, cheapest first."""

from __future__ import annotations

import importlib

from ..check import LEVELS, Check

MODULES = ("static", "imports", "contract", "behaviour", "refusals", "persistence", "learning")


def all_checks() -> list[Check]:
    """Every check in the order they run: static ones, imports, then what needs a model."""
    found: list[Check] = []
    for module in MODULES:
        members = vars(importlib.import_module(f"{__name__}.{module}")).values()
        found += [function.worldflux_check for function in members if hasattr(function, "worldflux_check")]
    return sorted(found, key=lambda check: LEVELS.index(check.level))
