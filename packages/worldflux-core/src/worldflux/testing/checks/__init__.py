"""Every check of the conformance kit, cheapest first."""

from __future__ import annotations

import importlib

from ..check import LEVELS, Check, Level

#: The modules of each level. Those of "static" and "imports" need no torch in this process.
MODULES: dict[Level, tuple[str, ...]] = {
    "static": ("static",),
    "imports": ("imports",),
    "full": ("contract", "behaviour", "overrides", "refusals", "persistence", "steps", "learning"),
}


def all_checks(level: Level = "full") -> list[Check]:
    """Every check up to ``level`` in the order they run; nothing above that level is imported."""
    found: list[Check] = []
    for included in LEVELS[: LEVELS.index(level) + 1]:
        for module in MODULES[included]:
            members = vars(importlib.import_module(f"{__name__}.{module}")).values()
            found += [function.worldflux_check for function in members if hasattr(function, "worldflux_check")]
    return found
