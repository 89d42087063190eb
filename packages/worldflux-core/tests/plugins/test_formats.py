"""Formats of plugins, plugin API 1.1: told from the manifest alone, and made by the plugin when one is asked for."""

from __future__ import annotations

import sys

import pytest

import worldflux  # noqa: F401  it gives the registry its loader
from worldflux.core.errors import ConfigurationError, PluginError
from worldflux.core.registry import WorldModelRegistry
from worldflux.plugins.kernel import get_kernel

HEAD = """
manifest_version = 1
name = "acme-rows"
plugin_api_version = "1.1"
worldflux_version_range = ""
capabilities = ["formats"]
"""
FORMAT = """
[[formats]]
id = "acme"
description = "Rows as Acme writes them"
suffixes = [".acme"]
markers = ["meta/acme.json"]
"""
CODE = """
from worldflux.plugins import hookimpl

class Rows:
    name = "acme"
    def detect(self, path): return False
    def open(self, path): return "rows"

@hookimpl
def worldflux_register_formats(registrar):
    registrar.add("acme", Rows)
"""


@pytest.fixture
def add(site):
    """Install acme-rows, which brings a format and nothing else, with this code."""

    def add(code: str = CODE, manifest: str = FORMAT):
        site.add("acme-rows", head=HEAD, manifest=manifest, code=code, models={"acme": "acme_rows.plugin"})
        return site.kernel()

    return add


@pytest.fixture
def of_this_process(add, monkeypatch):
    """The plugin, seen by the kernel of this process and by no other name."""
    monkeypatch.setenv("WORLDFLUX_PLUGINS", "acme-rows")
    add()
    before = WorldModelRegistry.snapshot()
    get_kernel().rediscover()
    yield get_kernel()
    WorldModelRegistry.restore(before)
    monkeypatch.undo()
    get_kernel().rediscover()


def test_what_formats_there_are_is_told_without_importing_any(of_this_process):
    (name, (plugin, told)), *others = WorldModelRegistry.reach("declared", "formats").items()
    assert (name, plugin.name, told.suffixes, told.markers) == ("acme", "acme-rows", (".acme",), ("meta/acme.json",))
    assert others == []
    assert "acme_rows" not in sys.modules
    assert plugin.to_dict()["provides"] == {"formats": ["acme"]}


def test_asking_for_a_format_starts_its_plugin(of_this_process):
    assert WorldModelRegistry.reach("format", "acme")().open("somewhere") == "rows"
    (plugin,) = [plugin for plugin in of_this_process.plugins if plugin.name == "acme-rows"]
    assert plugin.state == "active"


def test_an_unknown_format_names_the_nearest(of_this_process):
    with pytest.raises(ConfigurationError, match="Unknown format 'acne'.*Did you mean 'acme'"):
        WorldModelRegistry.reach("format", "acne")


def test_a_format_that_is_declared_and_not_registered_fails_the_plugin(add):
    kernel = add("from worldflux.plugins import hookimpl\n@hookimpl\ndef worldflux_model_created(): pass\n")
    with pytest.raises(PluginError, match="its manifest declares formats:acme, but it does not register it"):
        kernel.factory("format", "acme")
    assert kernel.registry.snapshot() == {}


def test_a_format_that_is_registered_and_not_declared_fails_the_plugin(add):
    kernel = add(CODE + "    registrar.add('other', Rows)\n")
    with pytest.raises(PluginError, match="it registers formats:other, which its manifest does not declare"):
        kernel.factory("format", "acme")
    assert kernel.registry.snapshot() == {}


def test_two_plugins_cannot_bring_one_format(site, add):
    add()
    other = {"head": HEAD.replace("acme", "beta"), "models": {"acme": "beta_rows.plugin"}}
    site.add("beta-rows", manifest=FORMAT, code="", **other)
    assert "formats:acme is already provided by 'acme-rows'" in site.kernel().plugins[1].problem
