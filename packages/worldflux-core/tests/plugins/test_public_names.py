"""``import worldflux``: its names, told once to Python and once to type checkers, and nothing loaded before use."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import worldflux
from worldflux.core.registry import ModelEntry, WorldModelRegistry
from worldflux.plugins.kernel import Kernel, get_kernel


def test_every_public_name_exists():
    pytest.importorskip("torch")
    for name in worldflux.__all__:
        assert getattr(worldflux, name) is not None
    assert set(worldflux.__all__) <= set(dir(worldflux))


def test_the_stub_tells_type_checkers_the_same_names_from_the_same_modules():
    stub = ast.parse(Path(worldflux.__file__).with_suffix(".pyi").read_text())
    told = {a.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for a in node.names}
    assert told == {name: f"worldflux.{module}" for name, module in worldflux._MODULE_OF.items()}


def test_rooms_that_users_import_from_are_there_without_an_import_of_their_own():
    pytest.importorskip("torch")
    assert {"agent", "data", "delegated", "envs", "evals", "planners", "training"} <= set(dir(worldflux))
    assert worldflux.__getattr__("planners") is importlib.import_module("worldflux.planners")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'worldflux' has no attribute 'creat_world_model'"):
        _ = worldflux.creat_world_model


EARLIER = """
import sys, warnings, worldflux
assert "worldflux.earlier" not in sys.modules
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    from worldflux import {name}
    from worldflux import {name}
(warning,) = seen
assert warning.category is DeprecationWarning and warning.filename == "<string>", warning
assert "Use '{place}' instead" in str(warning.message), warning
"""


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("PLANNER_HORIZON_KEY", "worldflux.core.payloads.PLANNER_HORIZON_KEY"),
        ("normalize_planned_action", "worldflux.core.payloads.normalize_planned_action"),
        ("RolloutEngine", "worldflux.core.components.RolloutExecutor"),
        ("PlannerObjective", "worldflux.planners.Objective"),
        ("set_seed", "torch.manual_seed"),
    ],
)
def test_a_name_of_the_earlier_worldflux_leads_to_its_thing_with_one_warning(name, place, tmp_path):
    pytest.importorskip("torch")
    code = EARLIER.format(name=name, place=place)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_every_earlier_name_has_its_thing_and_none_is_a_name_of_today(monkeypatch):
    pytest.importorskip("torch")
    earlier = importlib.import_module("worldflux.earlier")
    entry = ModelEntry("the model class", "the config class")
    monkeypatch.setattr(WorldModelRegistry, "_entries", {("model", name): entry for name in ("dreamer", "tdmpc2")})
    for name in [*earlier.MOVED, *earlier.FAMILIES, *earlier._MADE]:
        assert name not in worldflux.__all__
        with pytest.warns(DeprecationWarning, match=f"worldflux.{name} is of an earlier version. Use '"):
            assert earlier.find(name) is not None


def test_an_earlier_class_of_a_family_that_is_not_installed_names_the_package(monkeypatch):
    earlier = importlib.import_module("worldflux.earlier")
    kernel = Kernel(list, registry=WorldModelRegistry, environ={})
    monkeypatch.setattr(WorldModelRegistry, "_entries", {})
    monkeypatch.setattr(WorldModelRegistry, "_loader", kernel.ensure)
    with pytest.raises(ImportError, match="pip install worldflux-dreamer"):
        earlier.find("DreamerV3Config")


def test_the_earlier_catalogue_and_aliases_are_those_of_today():
    with pytest.warns(DeprecationWarning, match="Use 'worldflux.plugins.get_kernel"):
        assert get_kernel().catalog.aliases == worldflux.MODEL_ALIASES
    with pytest.warns(DeprecationWarning, match="Use 'worldflux.list_models"):
        assert worldflux.list_models(verbose=True, surface="all") == worldflux.MODEL_CATALOG


def test_the_version_is_the_installed_one():
    assert worldflux.__version__.split(".")[0].isdigit()


@pytest.mark.parametrize(
    "statement",
    [
        "worldflux.plugins.get_kernel",
        "worldflux.__version__",
        "worldflux.ConfigurationError",
        "worldflux.did_you_mean",
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
        "from worldflux.core.registry import WorldModelRegistry; WorldModelRegistry.model('token')",
        "from worldflux import get_config; get_config('token:base')",
    ],
)
def test_the_registry_reaches_plugins_in_a_fresh_process(code, tmp_path):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "token" in done.stderr
    assert "pip install worldflux-generative" in done.stderr or not done.returncode
