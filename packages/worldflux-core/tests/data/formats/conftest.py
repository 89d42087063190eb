"""The sets that travel with the tests, and what tells whether a reader reads them right."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def beside(name: str):
    """Import a helper that lies beside the tests."""
    spec = importlib.util.spec_from_file_location(f"formats_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def check_expected():
    """The function that asserts that a dataset holds the rows of an ``expected.json``."""
    return beside("expected").check_expected


@pytest.fixture(scope="session")
def sets() -> Path:
    """The folder of the sets: FORMAT/NAME."""
    return HERE / "sets"


@pytest.fixture
def copied(tmp_path: Path, sets: Path):
    """Copies of sets that a test may damage, by their names."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(sets / name, tmp_path / Path(name).name))

    return copy
