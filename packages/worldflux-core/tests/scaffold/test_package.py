"""The rendered package: consistent, tidy, and written whole or not at all."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.plugins import manifest
from worldflux.scaffold import write
from worldflux.scaffold.package import TEMPLATES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def toml(path: Path) -> dict:
    return tomllib.loads(path.read_text())


def test_every_template_is_a_file_of_the_package(project):
    written = [path for path in project.rglob("*") if path.is_file()]
    assert len(written) == len(TEMPLATES)


def test_nothing_is_left_to_fill_in(project):
    for path in project.rglob("*"):
        text = path.read_text() if path.is_file() else ""
        assert "$" not in text.replace("${{ matrix.python }}", "").replace('"$(ls dist/*.whl)[test]"', ""), path


def test_the_manifest_is_strictly_valid_and_agrees_with_the_distribution(project):
    about = toml(project / "pyproject.toml")["project"]
    found, _ = manifest.parse(toml(project / "src/acme_world/worldflux.toml"), strict=True)
    assert found.name == about["name"] == "acme-world"
    assert f"worldflux-core{found.worldflux_version_range}" in about["dependencies"]
    assert about["entry-points"]["worldflux.models"] == {"acme": "acme_world.plugin"}
    assert [model.id for model in found.models] == ["acme"]


def test_the_code_reads_on_the_oldest_python(project):
    for path in project.rglob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 10))


def test_the_package_is_tested_in_three_lines(project):
    code = [line for line in (project / "tests/test_conformance.py").read_text().splitlines() if line.strip()]
    assert len(code) - 1 == 3  # and a docstring


def test_the_model_is_about_a_hundred_lines(project):
    tree = ast.parse((project / "src/acme_world/model.py").read_text())
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    docstrings = [node for node in statements if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    assert len(statements) - len(docstrings) <= 110


@pytest.mark.parametrize("call", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_has_nothing_to_say(project, call):
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent))
    if ruff is None:
        pytest.skip("ruff is not installed")
    done = subprocess.run([ruff, *call, "--no-cache", "."], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_folder_with_something_in_it_is_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="not empty"):
        write({"a.txt": "a"}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "acme").write_text("mine")
    with pytest.raises(ConfigurationError, match="not a folder"):
        write({"a.txt": "a"}, tmp_path / "acme")


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "acme").mkdir()
    write({"deep/a.txt": "a"}, tmp_path / "acme")
    assert (tmp_path / "acme/deep/a.txt").read_text() == "a"


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(path: Path, *args: object, **kwargs: object) -> int:
        if path.name == "b.txt":
            raise OSError("no space left on device")
        return path.write_bytes(b"")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="no space"):
        write({"a.txt": "a", "b.txt": "b"}, tmp_path / "new" / "folders" / "acme")
    assert list(tmp_path.iterdir()) == []
