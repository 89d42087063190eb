"""What the pytest plugin offers to tests of plugins."""

from __future__ import annotations

import os
import sys

import pytest

from worldflux.plugins import get_kernel
from worldflux.testing import fixtures


def test_a_plugin_made_for_a_test_is_found_and_starts(make_plugin_dist, worldflux_kernel):
    folder = make_plugin_dist("acme-world")
    assert (folder / "plugin.py").is_file()
    (plugin,) = [plugin for plugin in worldflux_kernel.plugins if plugin.name == "acme-world"]
    worldflux_kernel.activate(plugin)
    assert worldflux_kernel.registry.registered("acme-world")


def test_nothing_that_is_installed_can_be_had_meanwhile(worldflux_kernel):
    assert {plugin.state for plugin in worldflux_kernel.plugins} <= {"blocked"}


def test_afterwards_everything_is_as_before(tmp_path):
    kernel = get_kernel()
    states = {plugin.name: plugin.state for plugin in kernel.plugins if plugin.state != "active"}
    path, environment, modules = list(sys.path), dict(os.environ), set(sys.modules)
    with fixtures.isolated_kernel() as isolated, fixtures.plugin_site(tmp_path / "site", isolated) as make:
        make("acme-world")
        isolated.activate(next(plugin for plugin in isolated.plugins if plugin.name == "acme-world"))
        assert "acme_world.plugin" in sys.modules
    assert not kernel.registry.registered("acme-world")
    assert {plugin.name: plugin.state for plugin in kernel.plugins if plugin.name in states} == states
    assert (sys.path, dict(os.environ)) == (path, environment)
    assert not [name for name in set(sys.modules) - modules if name.startswith("acme_world")]


def test_files_of_the_plugin_can_be_added_and_left_out(make_plugin_dist):
    folder = make_plugin_dist("acme-world", files={"model.py": "x = 1\n", "py.typed": None})
    assert (folder / "model.py").read_text() == "x = 1\n"
    assert not (folder / "py.typed").exists()


@pytest.mark.parametrize(
    ("version", "accepted"), [("0.1.0", ">=0.1,<0.2"), ("0.12.dev3", ">=0.12,<0.13"), ("2.3.1", ">=2.3,<3")]
)
def test_a_plugin_is_made_for_this_kernel(version, accepted):
    assert fixtures.kernel_range(version) == accepted
