"""Names: who owns them, what they mean, and what is said when nobody has them."""

from __future__ import annotations

import pytest

from worldflux.core.errors import ModelNotFoundError, PluginError

FAMILY = """
[[models]]
id = "{id}"
synonyms = ["{id}v2"]
[models.presets.ci]
description = "small"
params = "~0.1M"
default_obs = "vector"
maturity = "reference"
[models.presets.large]
name = "{id}v2:large"
description = "large"
params = "~9M"
default_obs = "image"
maturity = "experimental"
display_name = "The Large One"
[aliases]
"{id}" = "{id}v2:large"
{id}-small = "{id}:ci"
"{id}v2:official" = "{id}v2:large"
"""


@pytest.fixture
def acme(site):
    site.add("acme-world", id="acme", manifest=FAMILY.format(id="acme"))
    return site.kernel()


@pytest.mark.parametrize(
    ("asked", "model_id", "alias"),
    [
        ("acme:ci", "acme:ci", None),
        ("acmev2:ci", "acme:ci", None),
        (" ACMEv2:CI ", "acme:ci", None),
        ("acme:large", "acmev2:large", None),
        ("acme", "acmev2:large", "acme"),
        ("Acme-Small", "acme:ci", "Acme-Small"),
        ("acmev2:official", "acmev2:large", "acmev2:official"),
        ("acme:official", "acmev2:large", "acme:official"),
    ],
)
def test_presets_aliases_and_synonyms_lead_to_one_preset(acme, asked, model_id, alias):
    found = acme.resolve(asked)
    assert (found.model_id, found.family, found.alias) == (model_id, "acme", alias)


def test_an_entry_has_every_catalogue_field(acme):
    assert acme.resolve("acme:large").entry() == {
        "name": "acmev2:large",
        "type": "acme",
        "plugin": "acme-world",
        "description": "large",
        "params": "~9M",
        "default_obs": "image",
        "maturity": "experimental",
        "support_tier": "experimental",
        "parity_role": None,
        "canonical_display_name": "The Large One",
    }


def test_a_family_without_an_alias_means_its_only_size_or_base(site, text):
    site.add("one-world", id="one")
    two = text.model.format(id="two")
    two += two[two.index("[models.presets.ci]") :].replace("presets.ci", "presets.base")
    site.add("two-world", id="two", manifest=two)
    assert site.kernel().resolve("one").model_id == "one:ci"
    assert site.kernel().resolve("two").model_id == "two:base"


def test_an_unknown_family_names_the_nearest_and_those_there_are(acme):
    with pytest.raises(
        ModelNotFoundError, match=r"Unknown model type: akme. Available: \['acme'\]. Did you mean 'acme"
    ):
        acme.resolve("akme:ci")


def test_an_unknown_name_names_the_nearest(acme):
    with pytest.raises(ValueError, match="Unknown model 'acme-smal'.*Did you mean 'acme-small'"):
        acme.resolve("acme-smal")


def test_an_unknown_size_lists_the_sizes(acme):
    error = acme.catalog.unknown_size("acme", "larg")
    assert str(error) == "Unknown size: larg. Available: ['ci', 'large']. Did you mean 'large'? (model type 'acme')"


@pytest.mark.parametrize(
    ("asked", "package"),
    [
        ("tdmpc2:5m", "worldflux-tdmpc"),
        ("tdmpc-large", "worldflux-tdmpc"),
        ("vjepa2", "worldflux-jepa"),
        ("token:base", "worldflux-generative"),
    ],
)
def test_a_known_family_that_is_not_installed_says_how_to_install_it(acme, asked, package):
    with pytest.raises(ModelNotFoundError) as error:
        acme.resolve(asked)
    assert str(error.value) == f"model {asked!r} is provided by {package}: pip install {package}"


def test_an_alias_into_a_package_that_is_not_installed_says_so(site, text):
    manifest = text.model.format(id="acme_world") + '[aliases]\nacme-plans = "tdmpc2:5m"\n'
    site.add("acme-world", manifest=manifest)
    with pytest.raises(ModelNotFoundError, match=r"acme-plans \(= tdmpc2:5m\).*pip install worldflux-tdmpc"):
        site.kernel().resolve("acme-plans")


def test_the_second_plugin_with_an_id_is_rejected_whole(site, text):
    site.add("b-world", id="same", manifest=FAMILY.format(id="same"))
    extra = text.model.format(id="other").replace("[models.presets", "[models.presets")
    site.add(
        "c-world",
        manifest=FAMILY.format(id="same").replace("[aliases]", extra + "[aliases]"),
        models={"same": "c_world.plugin", "other": "c_world.plugin"},
    )
    first, second = site.kernel().plugins
    assert first.state == "indexed"
    assert second.problem == (
        "plugin c-world 1.0 is rejected: models:same is already provided by 'b-world'; disable one of the two"
    )
    with pytest.raises(PluginError, match="'other' cannot be had: plugin c-world 1.0 is rejected"):
        site.kernel().resolve("other:ci")


def test_disabling_the_first_gives_the_id_to_the_second(site):
    site.add("b-world", id="same")
    site.add("c-world", id="same")
    kernel = site.kernel({"WORLDFLUX_DISABLED_PLUGINS": "b-world"})
    assert kernel.resolve("same:ci").plugin.name == "c-world"


def test_a_synonym_is_an_id_too(site):
    site.add("b-world", id="same", manifest=FAMILY.format(id="same"))
    site.add("c-world", id="samev2")
    assert "models:samev2 is already provided by 'b-world'" in site.kernel().plugins[1].reason


def test_a_third_party_cannot_take_an_id_of_ours_even_where_ours_is_not_installed(site):
    site.add("acme-world", id="tdmpc2")
    assert site.kernel().plugins[0].reason == "models:tdmpc2 belongs to 'worldflux-tdmpc'; give the model another id"


def test_a_third_party_cannot_take_an_alias_of_ours(site, text):
    manifest = text.model.format(id="dreamer") + '[aliases]\ndreaming = "dreamer:ci"\n'
    site.add("worldflux-dreamer", id="dreamer", manifest=manifest)
    site.add("acme-world", id="dreaming")
    site.add("beta-world", id="dreamer-large")
    kernel = site.kernel()
    assert [plugin.state for plugin in kernel.plugins] == ["indexed", "rejected", "rejected"]
    assert kernel.plugins[1].reason == "models:dreaming is an alias of 'dreamer:ci'; give the model another id"
    assert kernel.resolve("dreaming").model_id == "dreamer:ci"


@pytest.mark.parametrize(
    ("alias", "means"),
    [
        ("acme", "it means 'acmev2:large'"),
        ("acme-small", "it means 'acme:ci'"),
        ("acme:tiny", "it means 'acme'"),
        ("dreamer-large", "it belongs to 'worldflux-dreamer'"),
    ],
)
def test_an_alias_that_shadows_is_ignored_with_a_warning_and_the_plugin_stays(site, text, alias, means):
    site.add("acme-world", id="acme", manifest=FAMILY.format(id="acme"))
    site.add("beta-world", id="beta", manifest=text.model.format(id="beta") + f'[aliases]\n"{alias}" = "beta:ci"\n')
    kernel = site.kernel()
    with pytest.warns(UserWarning, match=f"beta-world: alias '{alias}' ignored, {means}"):
        assert kernel.resolve("beta:ci").plugin.state == "indexed"
    before = kernel.resolve("acme").model_id
    assert before == "acmev2:large"
    assert kernel.plugins[1].notes


def test_an_alias_cannot_take_the_id_of_a_plugin_that_comes_later(site, text):
    site.add("a-world", id="first", manifest=text.model.format(id="first") + '[aliases]\nlast = "first:ci"\n')
    site.add("z-world", id="last")
    kernel = site.kernel()
    with pytest.warns(UserWarning, match="a-world: alias 'last' ignored, it means 'last'"):
        assert kernel.resolve("last").family == "last"


def test_asking_for_an_id_of_a_blocked_plugin_says_who_blocks_it(site):
    site.add("acme-world", id="acme", manifest=FAMILY.format(id="acme"))
    kernel = site.kernel({"WORLDFLUX_DISABLED_PLUGINS": "acme-world"})
    for asked in ("acme:ci", "acme", "acme-small", "acmev2:ci"):
        with pytest.raises(PluginError, match="comes with plugin acme-world, which is blocked: by WORLDFLUX_DISABLED"):
            kernel.resolve(asked)


def test_asking_for_an_id_of_a_rejected_plugin_raises_its_reason(site):
    site.add("acme-world", id="acme", manifest=None)
    with pytest.raises(
        PluginError, match=r"'acme' cannot be had: plugin acme-world 1.0 is rejected: broken worldflux.t"
    ):
        site.kernel().resolve("acme:ci")


def test_first_party_families_are_listed_first_in_the_catalogues_order(site):
    for name, id in (("a-world", "abc"), ("worldflux-jepa", "jepa"), ("worldflux-dreamer", "dreamer")):
        site.add(name, id=id)
    assert site.kernel().catalog.families == ["dreamer", "jepa", "abc"]
