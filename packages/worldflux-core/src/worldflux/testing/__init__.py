"""The conformance kit: the rules every family keeps, as checks that run three ways.

``class TestMine(FamilyConformance): family_id = "mine"`` in a test file; ``pytest --worldflux-family=mine`` without
one; ``worldflux plugins check mine`` without pytest. What is not a definition of checks loads on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .check import Check, CheckFailed, CheckSkipped, check, expect  # at once: the function has its module's name

if TYPE_CHECKING:
    from .checks import all_checks
    from .conformance import FamilyConformance
    from .results import CheckResult
    from .runner import run_checks
    from .startup import Startup, observe
    from .subject import Subject

_MODULE_OF = {
    "FamilyConformance": "conformance",
    "CheckResult": "results",
    "Startup": "startup",
    "Subject": "subject",
    "all_checks": "checks",
    "observe": "startup",
    "run_checks": "runner",
}
__all__ = [
    "Check",
    "CheckFailed",
    "CheckResult",
    "CheckSkipped",
    "FamilyConformance",
    "Startup",
    "Subject",
    "all_checks",
    "check",
    "expect",
    "observe",
    "run_checks",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
