from __future__ import annotations

import sys

import pytest

from worldflux.blocks import preset_values
from worldflux.core.errors import ConfigurationError

MANIFEST = """
[[models]]
id = "walker"
[models.presets.ci]
config = { width = 8, sizes = [1, 2] }
[models.presets.base]
[[models]]
id = "bare"
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The name of an importable package that declares two families."""
    (tmp_path / "preset_package").mkdir()
    (tmp_path / "preset_package/__init__.py").write_text("")
    (tmp_path / "preset_package/worldflux.toml").write_text(MANIFEST)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "preset_package"
    sys.modules.pop("preset_package", None)


def test_a_preset_has_the_values_its_manifest_states(package):
    assert preset_values(package, "walker", "ci") == {"width": 8, "sizes": [1, 2]}
    assert preset_values(f"{package}.walker.config", "walker", "base") == {}


def test_values_handed_out_are_a_copy(package):
    preset_values(package, "walker", "ci")["sizes"].append(9)
    assert preset_values(package, "walker", "ci") == {"width": 8, "sizes": [1, 2]}


def test_an_unknown_size_or_family_is_named_with_the_nearest(package):
    with pytest.raises(ConfigurationError, match=r"Unknown size: bas\. Available: \['ci', 'base'\].*'base'"):
        preset_values(package, "walker", "bas")
    with pytest.raises(ConfigurationError, match=r"no family 'walkr'.*Did you mean 'walker'"):
        preset_values(package, "walkr", "ci")
