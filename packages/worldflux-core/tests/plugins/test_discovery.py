"""Plugins are found and judged without importing them, and one that is broken costs only itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile

import importlib_metadata
import pytest

from worldflux.core.errors import PluginError
from worldflux.plugins.discovery import find_plugins, read_manifest
from worldflux.plugins.manifest import ManifestError


def only(kernel):
    (plugin,) = kernel.plugins
    return plugin


def test_a_sound_plugin_is_indexed_and_none_of_its_code_runs(site):
    package = site.add("acme-world", init="raise SystemExit('imported')")
    plugin = only(site.kernel())
    assert (plugin.name, plugin.version, plugin.state) == ("acme-world", "1.0", "indexed")
    assert plugin.to_dict()["provides"] == {"models": ["acme_world"]}
    assert package not in sys.modules


def test_a_package_with_a_syntax_error_is_still_listed(site):
    site.add("acme-world", init="def broken(:")
    assert only(site.kernel()).state == "indexed"


def test_a_dotted_package_is_read_without_importing_its_parent(site):
    site.add("acme-world", package="acme.world", id="acme-world")
    (site.root / "acme" / "__init__.py").write_text("raise SystemExit('imported')")
    assert only(site.kernel()).state == "indexed"
    assert "acme" not in sys.modules


def test_packages_in_nested_namespaces_are_found(site):
    site.add("acme-world", package="spaced.mid.plug", id="acme-world")
    assert only(site.kernel()).state == "indexed"


def test_a_manifest_inside_a_zip_is_read(site, tmp_path, monkeypatch):
    site.add("acme-world", package="zipped")
    archive = tmp_path / "lib.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for file in (site.root / "zipped").iterdir():
            target.write(file, f"zipped/{file.name}")
    shutil.rmtree(site.root / "zipped")
    monkeypatch.syspath_prepend(archive)
    assert only(site.kernel()).state == "indexed"


def test_the_nearest_enclosing_package_has_the_manifest(site):
    site.add("acme-world")
    assert b"acme-world" in read_manifest("acme_world.plugin")
    assert b"acme-world" in read_manifest("acme_world.not.there")
    with pytest.raises(ManifestError, match="none beside 'nowhere_at_all.x'; is it package data of the wheel"):
        read_manifest("nowhere_at_all.x")


def test_below_a_module_there_is_no_nearer_manifest_than_that_of_its_package(site):
    site.add("acme-world", init="raise SystemExit('imported')")
    assert b"acme-world" in read_manifest("acme_world.plugin.deeper")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"head": "name = 3"}, "has name 3, expected 'acme-world'"),
        ({"head": 'name = "acme-world"\n'}, "manifest_version is missing"),
        ({"components": {"part": "acme_world.plugin"}}, "entry point 'part' is not declared"),
    ],
)
def test_a_broken_declaration_is_listed_as_rejected_with_its_reason(site, options, says):
    site.add("acme-world", **options)
    plugin = only(site.kernel())
    assert plugin.state == "rejected"
    assert says in plugin.problem


def test_a_manifest_of_a_later_api_is_judged_by_its_version_not_by_its_news(site, text):
    head = text.manifest.format(name="acme-world").replace('"1.0"', '"1.7"').replace('"models"', '"telepathy"')
    site.add("acme-world", head=head)
    assert "needs plugin API 1.7" in only(site.kernel()).reason


def test_an_entry_point_into_somebody_elses_package_is_rejected(site):
    site.add("acme-world")
    site.add("thief", manifest=None, models={"acme_world": "acme_world.plugin"})
    thief = site.kernel().plugins[1]
    assert thief.state == "rejected"
    assert "has name 'acme-world', expected 'thief'" in thief.reason


def test_entry_points_that_lead_to_two_manifests_are_rejected(site):
    site.add("acme-world")
    other = site.add("other-world")
    info = site.root / "acme_world-1.0.dist-info" / "entry_points.txt"
    info.write_text(f"[worldflux.models]\nacme_world = acme_world.plugin\nelse = {other}.plugin\n")
    assert "lead to different manifests" in site.kernel().plugins[0].reason


def test_a_command_or_importer_of_another_package_is_rejected(site, text):
    extra = '[[commands]]\nname = "probe"\nsummary = "x"\ntarget = "subprocess:run"\n'
    site.add("acme-world", manifest=text.model.format(id="acme_world") + extra)
    assert "target 'subprocess:run' is outside the plugin's own package" in only(site.kernel()).reason


def test_a_corrupt_neighbour_does_not_hide_the_others(site):
    site.add("acme-world")
    for name, content in (("a", b"[worldflux.models\nx ="), ("b", b"\xff\xff"), ("c", b"nonsense")):
        folder = site.root / f"{name}_corrupt-1.0.dist-info"
        folder.mkdir()
        (folder / "entry_points.txt").write_bytes(content)
    states = {plugin.name: plugin.state for plugin in site.kernel().plugins}
    assert states["acme-world"] == "indexed"
    assert set(states.values()) <= {"indexed", "rejected"}


def test_without_metadata_a_distribution_is_named_after_its_folder(site):
    site.add("acme-world")
    (site.root / "acme_world-1.0.dist-info" / "METADATA").unlink()
    plugin = only(site.kernel())
    assert plugin.state == "rejected"
    assert "acme_world" in plugin.name


def test_of_two_copies_the_one_first_on_the_path_counts(site, tmp_path):
    from worldflux.core.registry import Registry
    from worldflux.plugins.kernel import Kernel

    site.add("acme-world", version="2.0")
    other = tmp_path / "other" / "Acme_World-1.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: Acme.World\nVersion: 1.0\n")
    shutil.copy(site.root / "acme_world-2.0.dist-info" / "entry_points.txt", other)
    path = [str(site.root), str(other.parent)]
    kernel = Kernel(lambda: importlib_metadata.distributions(path=path), registry=Registry(), environ={}, version="0.1")
    assert [plugin.version for plugin in kernel.plugins] == ["2.0"]


@pytest.mark.parametrize("reverse", [False, True])
def test_the_order_does_not_depend_on_the_order_on_disk(site, reverse):
    from worldflux.core.registry import Registry
    from worldflux.plugins.kernel import Kernel

    for name in ("zeta", "Acme.World", "beta_world", "worldflux-tdmpc"):
        site.add(name, package=name.lower().replace(".", "_").replace("-", "_"), id=name.lower().replace("_", "-"))
    dists = sorted(importlib_metadata.distributions(path=[str(site.root)]), key=lambda d: d.version, reverse=reverse)
    dists = dists[::-1] if reverse else dists
    kernel = Kernel(lambda: dists, registry=Registry(), environ={}, version="0.1.0")
    assert [plugin.name for plugin in kernel.plugins] == ["worldflux-tdmpc", "Acme.World", "beta_world", "zeta"]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ["indexed", "indexed"]),
        ({"WORLDFLUX_PLUGINS": ""}, ["blocked", "blocked"]),
        ({"WORLDFLUX_PLUGINS": " B_World ,"}, ["blocked", "indexed"]),
        ({"WORLDFLUX_DISABLED_PLUGINS": "b.world"}, ["indexed", "blocked"]),
        ({"WORLDFLUX_DISABLED_PLUGINS": ""}, ["indexed", "indexed"]),
        ({"WORLDFLUX_PLUGINS": "a-world,b-world", "WORLDFLUX_DISABLED_PLUGINS": "a-world"}, ["blocked", "indexed"]),
    ],
)
def test_allow_and_deny_lists_name_distributions_and_deny_wins(site, environ, expected):
    site.add("a-world")
    site.add("b-world")
    assert [plugin.state for plugin in site.kernel(environ).plugins] == expected


def test_strict_mode_refuses_what_listing_would_only_show(site, text):
    strict = {"WORLDFLUX_STRICT_PLUGINS": "1"}
    site.add("a-world")
    assert site.kernel(strict).plugins
    site.add("b-world", head="colour = 1\n" + text.manifest.format(name="b-world"))
    assert site.kernel().plugins[1].notes == ["unknown key 'colour' in worldflux.toml"]
    with pytest.raises(PluginError, match="b-world: unknown key 'colour'"):
        _ = site.kernel(strict).plugins
    site.add("c-world", manifest=None)
    with pytest.raises(PluginError, match="c-world 1.0 is rejected"):
        _ = site.kernel(strict).plugins
    assert site.kernel(strict | {"WORLDFLUX_DISABLED_PLUGINS": "b-world, c-world"}).plugins


SENTINEL = """
import sys
import worldflux
from worldflux.plugins import get_kernel
assert "acme_world:ci" in worldflux.list_models(), worldflux.list_models(surface="all")
assert worldflux.get_model_info("acme_world")["model_id"] == "acme_world:ci"
assert any(plugin.name == "acme-world" for plugin in get_kernel().plugins)
assert not {"acme_world", "torch", "pluggy", "pydantic"} & set(sys.modules)
"""


def test_listing_in_a_fresh_process_imports_no_plugin_no_torch_no_pluggy(site, tmp_path):
    touch = tmp_path / "touched"
    site.add("acme-world", init=f"open({str(touch)!r}, 'w')")
    code = f"import sys; sys.path.insert(0, {str(site.root)!r})\n" + SENTINEL
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not touch.exists()


@pytest.mark.parametrize(
    "folder",
    [
        "acme-world-1.0.dist-info",
        "Acme.World-1.0.dist-info",
        "acme_world.egg-info",
        "acme_world-1.0-py3.11.egg-info",
        "acme_world-1.0-py3.11.egg/EGG-INFO",
    ],
)
def test_a_distribution_may_be_named_as_any_tool_names_it(site, folder):
    site.add("acme-world")
    info = site.root / "acme_world-1.0.dist-info"
    if "egg" in folder:
        (info / "METADATA").rename(info / "PKG-INFO")
    (site.root / folder).parent.mkdir(exist_ok=True)
    info.rename(site.root / folder)
    dist = importlib_metadata.PathDistribution(site.root / folder)
    (plugin,) = find_plugins([dist], "0.1.0")
    assert (plugin.name, plugin.state, plugin.reason) == ("acme-world", "indexed", "")


@pytest.mark.parametrize("folder", ["acme-2-1.0.dist-info", "acme-1.0-py3.11.egg-info", "acme.egg-info"])
def test_a_distribution_that_calls_itself_otherwise_than_its_folder_is_rejected(site, folder):
    site.add("acme-world")
    info = site.root / "acme_world-1.0.dist-info"
    info.rename(site.root / folder)
    dist = importlib_metadata.PathDistribution(site.root / folder)
    (plugin,) = find_plugins([dist], "0.1.0")
    assert plugin.reason == "its metadata cannot be read: it calls itself 'acme-world'"
