"""Whom a package can be taken for: names that only look like another's, and two packages of one name."""

from __future__ import annotations

import logging
import shutil

import importlib_metadata
import pytest

from worldflux.core.errors import PluginError
from worldflux.core.registry import Registry
from worldflux.plugins.kernel import Kernel
from worldflux.strangers.names import looks, one_slip


def note(name: str, near: str) -> str:
    return f"its name {name!r} is easily taken for {near!r}, which is another's"


@pytest.mark.parametrize("name", ["dreaner", "dreame", "dreamers", "draemer", "drreamer", "dreame3"])
def test_one_key_more_less_another_or_two_swapped_is_a_slip(name):
    assert one_slip(name, "dreamer")


@pytest.mark.parametrize(
    ("name", "other"), [("dreamerv2", "dreamerv3"), ("screamer", "dreamer"), ("gam", "gan"), ("mine", "dreamer")]
)
def test_another_version_another_word_and_short_words_are_no_slips(name, other):
    assert not one_slip(name, other)


@pytest.mark.parametrize("name", ["tdmpc-2", "TD.MPC_2", "tdrnpc2"])
def test_what_the_eye_takes_for_one_looks_the_same(name):
    assert looks(name) == looks("tdmpc2")


@pytest.mark.parametrize(
    ("id", "near"), [("dreaner", "dreamer"), ("tdmpc-2", "tdmpc2"), ("dreamer_v3", "dreamerv3"), ("p1anet", "planet")]
)
def test_an_id_a_keystroke_from_ours_is_noted_and_said_when_the_plugin_starts(site, caplog, id, near):
    site.add("acme-world", id=id)
    kernel = site.kernel()
    (plugin,) = kernel.plugins
    assert (plugin.state, plugin.notes) == ("indexed", [note(id, near)])
    with caplog.at_level(logging.WARNING):
        kernel.ensure("model", id)
    assert caplog.messages == [f"plugin acme-world 1.0: {note(id, near)}"]
    with pytest.raises(PluginError, match="is easily taken for"):
        _ = site.kernel({"WORLDFLUX_STRICT_PLUGINS": "1"}).plugins


def test_so_is_the_name_of_a_distribution_and_an_alias(site, text):
    manifest = text.model.format(id="acme") + '[aliases]\ndreaner-small = "acme:ci"\n'
    site.add("worldflux-dreaner", id="acme", manifest=manifest)
    (plugin,) = site.kernel().plugins
    assert plugin.notes == [note("worldflux-dreaner", "worldflux-dreamer"), note("dreaner-small", "dreamer")]


def test_an_id_that_looks_like_another_plugins_is_noted(site):
    site.add("a-world", id="acme-net")
    site.add("b-world", id="acme_net")
    first, second = site.kernel().plugins
    assert (first.notes, second.notes) == ([], [note("acme_net", "acme-net")])


def test_our_own_names_are_not_noted(site):
    site.add("worldflux-dreamer", id="dreamer")
    site.add("worldflux-tdmpc", id="tdmpc2")
    assert [plugin.notes for plugin in site.kernel().plugins] == [[], []]


def test_what_calls_itself_ours_and_leads_elsewhere_is_rejected_and_our_names_stay_ours(site):
    site.add("worldflux-dreamer", package="evil", id="dreamer", init="raise SystemExit('imported')")
    kernel = site.kernel()
    (plugin,) = kernel.plugins
    assert plugin.state == "rejected"
    assert plugin.reason.endswith("'worldflux-dreamer' is a package of ours, but its entry points lead to ['evil']")
    with pytest.raises(PluginError, match="'dreamer' cannot be had.*is a package of ours"):
        kernel.ensure("model", "dreamer")


def test_what_gives_another_name_than_it_is_installed_under_is_rejected(site):
    site.add("evil-one", id="dreamer")
    metadata = site.root / "evil_one-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("evil-one", "worldflux-dreamer"))
    (plugin,) = site.kernel().plugins
    assert (plugin.name, plugin.state) == ("evil_one", "rejected")
    assert plugin.reason == "its metadata cannot be read: it calls itself 'worldflux-dreamer'"


@pytest.mark.parametrize(
    ("version", "notes"),
    [("2.0", []), ("1.0", ["hides acme-world 1.0, which is installed, too, further down sys.path"])],
)
def test_of_two_distributions_of_a_name_the_first_counts_and_says_that_it_hides_another(site, tmp_path, version, notes):
    site.add("acme-world", version="2.0")
    other = tmp_path / "other" / f"acme_world-{version}.dist-info"
    shutil.copytree(site.root / "acme_world-2.0.dist-info", other)
    (other / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-world\nVersion: {version}\n")
    path = [str(site.root), str(other.parent)]
    kernel = Kernel(lambda: importlib_metadata.distributions(path=path), registry=Registry(), environ={}, version="0.1")
    (plugin,) = kernel.plugins
    assert (plugin.version, plugin.notes) == ("2.0", notes)


def test_names_and_versions_of_strangers_hold_nothing_unseen(site):
    site.add("acme-world")
    info = site.root / "acme_world-1.0.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-world\nVersion: 1.0\x1b]0;title\x07\u202e\n")
    (info / "entry_points.txt").write_text("[worldflux.models]\nacme\u200b_world = acme_world.plugin\n")
    (site.root / "acme_world" / "worldflux.toml").write_text(
        '"a\\u202e" = 1\n' + (site.root / "acme_world" / "worldflux.toml").read_text()
    )
    (plugin,) = site.kernel().plugins
    assert plugin.version == r"1.0\x1b]0;title\x07\u202e"
    texts = [plugin.reason, *plugin.notes, *(name for _, name in plugin.ids), plugin.problem]
    assert plugin.reason and plugin.notes
    assert all(text.isprintable() for text in texts)
