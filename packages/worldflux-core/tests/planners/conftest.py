from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

WORLDS = Path(__file__).parent / "worlds.py"


@pytest.fixture(scope="session")
def worlds() -> ModuleType:
    """The module with worlds whose best plans are known."""
    spec = importlib.util.spec_from_file_location("worldflux_planners_worlds", WORLDS)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
