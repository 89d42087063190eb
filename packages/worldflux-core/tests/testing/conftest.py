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


@pytest.fixture(scope="session", autouse=True)
def warm() -> None:
    """Everything a check imports, imported before: pytester forgets modules, and torch cannot be loaded twice."""
    torch = importlib.import_module("torch")
    importlib.import_module("worldflux.testing.learner")
    torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])
