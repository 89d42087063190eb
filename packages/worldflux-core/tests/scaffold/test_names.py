"""A new package's names: how they derive from one another, and which cannot be had."""

from __future__ import annotations

import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.plugins.discovery import Plugin
from worldflux.plugins.manifest import Manifest, Model
from worldflux.scaffold import choose_names
from worldflux.scaffold.names import version_range

FORMAT = {"manifest_version": 1, "plugin_api_version": "1.0", "worldflux_version_range": ">=0.1"}
INSTALLED = [
    Plugin("Other_World", "1.0", manifest=Manifest(name="other-world", models=(Model("other"),), **FORMAT)),
    Plugin(
        "broken",
        "1.0",
        manifest=Manifest(name="broken", aliases={"nick": "dreamer:ci"}, **FORMAT),
        state="rejected",
        reason="it is broken",
    ),
]


def test_every_name_derives_from_the_packages():
    names = choose_names("acme-world_2", kernel="0.1.0")
    assert (names.name, names.module, names.family, names.title) == (
        "acme-world_2",
        "acme_world_2",
        "acme-world_2",
        "AcmeWorld2",
    )


def test_the_family_may_have_a_name_of_its_own():
    assert choose_names("acme-world", family="acme.sky", kernel="0.1.0").family == "acme.sky"


@pytest.mark.parametrize("name", ["world", "world-model"])
def test_no_class_is_called_like_the_one_it_derives_from(name):
    title = choose_names(name, kernel="0.1.0").title
    assert {f"{title}Model", f"{title}Config"}.isdisjoint({"WorldModel", "WorldModelConfig"})


@pytest.mark.parametrize(
    ("name", "family", "said"),
    [
        ("Acme", None, "lower-case"),
        ("2world", None, "lower-case"),
        ("acme world", None, "lower-case"),
        ("acme/world", None, "lower-case"),
        ("../acme", None, "lower-case"),
        ("acme-", None, "lower-case"),
        ("", None, "lower-case"),
        ("acme", "Acme", "family's id"),
        ("acme", "", "family's id"),
        ("worldflux-core", None, "WorldFlux itself"),
        ("worldflux_jepa", None, "WorldFlux itself"),
        ("other-world", "mine", "'Other_World' is installed"),
        ("acme", "other", "comes with Other_World"),
        ("acme", "nick", "comes with broken"),
        ("acme", "dreamer", "belongs to worldflux-dreamer"),
        ("tdmpc2", None, "belongs to worldflux-tdmpc"),
        ("lambda", None, "Python's own"),
        ("json", None, "Python's own"),
        ("packaging", None, "already installed"),
    ],
)
def test_a_name_that_is_malformed_or_taken_is_refused(name, family, said):
    with pytest.raises(ConfigurationError, match=said):
        choose_names(name, family=family, plugins=INSTALLED, kernel="0.1.0")


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [("0.1.0", ">=0.1,<0.2"), ("0.12.3.dev4", ">=0.12,<0.13"), ("1.4.2", ">=1.4,<2"), ("0", ">=0.0,<0.1")],
)
def test_the_package_asks_for_the_kernel_it_was_written_with_until_one_that_may_break_it(kernel, expected):
    assert version_range(kernel) == expected
