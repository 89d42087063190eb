"""What a user installs is what the checkout holds: every source file, licence and entry point, and no tests."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = {"worldflux-dreamer": "dreamer", "worldflux-tdmpc": "tdmpc2", "worldflux-jepa": "jepa"}
PACKAGES = {"worldflux-core": "worldflux", **{name: name.replace("-", "_") for name in FAMILIES}}


def installed_files(name: str) -> set[str]:
    """The files of an installed distribution; skips where it is installed in editable mode."""
    files = {str(path) for path in metadata.files(name) or []}
    if any(path.endswith(".pth") for path in files):
        pytest.skip(f"{name} is installed in editable mode")
    return {path for path in files if "__pycache__" not in path}


@pytest.mark.parametrize(("name", "module"), PACKAGES.items())
def test_wheel_holds_every_source_file_and_nothing_else(name, module):
    source = ROOT / "packages" / name / "src"
    expected = {str(path.relative_to(source)) for path in (source / module).rglob("*") if path.is_file()}
    expected = {path for path in expected if "__pycache__" not in path}
    found = {path for path in installed_files(name) if path.startswith(f"{module}/")}
    assert found == expected
    assert f"{module}/py.typed" in found


@pytest.mark.parametrize("name", PACKAGES)
def test_wheel_carries_the_licence_and_no_tests(name):
    files = installed_files(name)
    assert any(path.endswith(".dist-info/licenses/LICENSE") for path in files)
    tests = [path for path in files if Path(path).match("test_*.py") or Path(path).name == "conftest.py"]
    assert not tests + [path for path in files if "tests/" in path]


@pytest.mark.parametrize("name", PACKAGES)
def test_every_package_carries_the_same_licence_as_the_repository(name):
    assert (ROOT / "packages" / name / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize(("name", "family"), FAMILIES.items())
def test_family_ships_its_manifest_and_is_found_by_entry_point(name, family):
    assert f"{PACKAGES[name]}/worldflux.toml" in installed_files(name)
    entry_points = metadata.entry_points(group="worldflux.models", name=family)
    assert [entry_point.value for entry_point in entry_points] == [f"{PACKAGES[name]}.plugin"]


@pytest.mark.parametrize("name", FAMILIES)
def test_family_manifest_asks_for_the_kernel_range_its_distribution_asks_for(name):
    package = ROOT / "packages" / name
    manifest = tomllib.loads((package / "src" / PACKAGES[name] / "worldflux.toml").read_text(encoding="utf-8"))
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"worldflux-core{manifest['worldflux_version_range']}" in project["dependencies"]
    assert manifest["name"] == project["name"]


def test_the_command_is_installed():
    (script,) = metadata.entry_points(group="console_scripts", name="worldflux")
    assert script.value == "worldflux.cli:main"
    assert callable(script.load())
