"""``import worldflux``: its names, told once to Python and once to type checkers, and nothing loaded before use."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import worldflux


def test_every_public_name_exists():
    pytest.importorskip("torch")
    for name in worldflux.__all__:
        assert getattr(worldflux, name) is not None
    assert set(worldflux.__all__) <= set(dir(worldflux))


def test_the_stub_tells_type_checkers_the_same_names_from_the_same_modules():
    stub = ast.parse(Path(worldflux.__file__).with_suffix(".pyi").read_text())
    told = {a.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for a in node.names}
    assert told == {name: f"worldflux.{module}" for name, module in worldflux._MODULE_OF.items()}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'worldflux' has no attribute 'creat_world_model'"):
        _ = worldflux.creat_world_model


def test_the_version_is_the_installed_one():
    assert worldflux.__version__.split(".")[0].isdigit()


@pytest.mark.parametrize(
    "statement",
    [
        "worldflux.plugins.get_kernel",
        "worldflux.__version__",
        "worldflux.ConfigurationError",
        "worldflux.WorldModelConfig",
        "worldflux.list_models(surface='all')",
        "dir(worldflux)",
    ],
)
def test_light_names_load_no_torch(statement, tmp_path):
    code = (
        f"import sys, worldflux; {statement}; assert not {{'torch', 'numpy', 'pydantic', 'pluggy'}} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "from worldflux.core.registry import WorldModelRegistry; WorldModelRegistry.model('jepa')",
        "from worldflux import get_config; get_config('jepa:base')",
    ],
)
def test_the_registry_reaches_plugins_in_a_fresh_process(code, tmp_path):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "jepa" in done.stderr
    assert "pip install worldflux-jepa" in done.stderr or not done.returncode
