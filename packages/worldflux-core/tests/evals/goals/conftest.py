from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ORACLE = Path(__file__).parent / "oracle.py"


@pytest.fixture(scope="session")
def oracle() -> ModuleType:
    """The module with models that know the point goal."""
    spec = importlib.util.spec_from_file_location("worldflux_goals_oracle", ORACLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
