from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def beside() -> Callable[[str], ModuleType]:
    """A module of this folder by its name: tests are no package, so they cannot import it."""

    def load(name: str) -> ModuleType:
        key = f"worldflux_kit_{name}"
        if key not in sys.modules:
            spec = importlib.util.spec_from_file_location(key, HERE / f"{name}.py")
            sys.modules[key] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[key])
        return sys.modules[key]

    return load
