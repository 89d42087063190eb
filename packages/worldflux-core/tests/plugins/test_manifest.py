"""The manifest's format: what it accepts, what it refuses and where, and that it does not change unnoticed."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from worldflux.plugins.manifest import ManifestError, json_schema, parse

SNAPSHOT = Path(__file__).parent / "manifest_schema.json"
GOOD = {
    "manifest_version": 1,
    "name": "acme-world",
    "plugin_api_version": "1.1",
    "worldflux_version_range": ">=0.1,<0.2",
    "capabilities": ["models", "components", "backends", "importers", "commands", "formats"],
    "requires": ["einops>=0.7"],
    "experimental": False,
    "activation_events": ["model_created"],
    "models": [
        {
            "id": "acme",
            "synonyms": ["acmev2"],
            "capabilities": ["reward", "decode"],
            "slots": ["tokenizer"],
            "presets": {
                "ci": {
                    "description": "A toy",
                    "params": "~0.1M",
                    "default_obs": "vector",
                    "maturity": "reference",
                    "config": {"width": 8, "rate": 0.5, "name": "x", "deep": {"sizes": [1, 2]}, "on": True},
                },
                "large": {
                    "name": "acmev2:large",
                    "description": "A large toy",
                    "params": "~9M",
                    "default_obs": "image",
                    "maturity": "experimental",
                    "tier": "advanced",
                    "parity_role": "reference_family",
                    "display_name": "Acme",
                },
            },
        }
    ],
    "aliases": {"acme": "acme:ci", "acme-large": "acmev2:large", "elsewhere": "dreamer:ci"},
    "components": [{"id": "acme.zero", "slot": "action_conditioner"}],
    "backends": [{"id": "acme_remote", "models": ["acme:ci"], "profile": "small"}],
    "importers": [{"id": "official-acme", "target": "acme_world.weights:load"}],
    "commands": [{"name": "acme-probe", "summary": "Look", "target": "acme_world.cli:probe"}],
    "formats": [{"id": "acme", "suffixes": [".acme"], "markers": ["meta/acme.json"]}],
}


def changed(path: str, value: object) -> dict:
    raw = copy.deepcopy(GOOD)
    *parents, last = [int(key) if key.isdigit() else key for key in path.split("/")]
    at = raw
    for key in parents:
        at = at[key]
    at[last] = value
    return raw


def test_a_full_manifest_is_read():
    manifest, unknown = parse(GOOD, strict=True)
    assert not unknown
    assert manifest.models[0].preset_name("ci") == "acme:ci"
    assert manifest.models[0].preset_name("large") == "acmev2:large"
    assert manifest.models[0].presets["ci"].config["deep"] == {"sizes": [1, 2]}
    assert ("models", "acmev2") in dict(manifest.owned())


@pytest.mark.parametrize(
    ("tier", "role", "maturity", "expected"),
    [
        ("internal", "proof_canonical", "reference", "internal"),
        (None, "proof_canonical", "reference", "advanced"),
        (None, None, "reference", "supported"),
        (None, "ci_only", "experimental", "experimental"),
        (None, None, "skeleton", "internal"),
    ],
)
def test_the_tier_is_stated_or_follows_from_role_and_maturity(tier, role, maturity, expected):
    preset = GOOD["models"][0]["presets"]["ci"] | {"maturity": maturity}
    preset |= {key: value for key, value in (("tier", tier), ("parity_role", role)) if value}
    assert parse(changed("models/0/presets/ci", preset))[0].models[0].presets["ci"].support_tier == expected


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("manifest_version", 2, "manifest_version: expected 1"),
        ("manifest_version", True, "manifest_version: expected a number"),
        ("plugin_api_version", "1.0.3", "plugin_api_version: expected a plugin API version MAJOR.MINOR"),
        ("plugin_api_version", "01.0", "plugin_api_version"),
        ("plugin_api_version", 1.0, "plugin_api_version: expected a text, not 1.0"),
        ("worldflux_version_range", "about 0.1", "worldflux_version_range: expected a range"),
        ("name", "acme world", "name: expected the name of a distribution"),
        ("experimental", "yes", "experimental: expected true or false"),
        ("requires", ["einops>>1"], "requires: expected a requirement"),
        ("requires", "einops", "requires: expected a list"),
        ("capabilities", ["models"], "capabilities: expected every section the file has; backends"),
        ("capabilities", ["magic"], "capabilities[0]: expected one of models"),
        ("activation_events", ["import"], "activation_events[0]"),
        ("models", {"id": "acme"}, "models: expected a list"),
        ("models/0", "acme", "models[0]: expected a table"),
        ("models/0/id", "Acme", "models[0].id: expected an id"),
        ("models/0/id", "acme\n", "models[0].id: expected an id"),
        ("models/0/synonyms", ["acme"], "each name once; models:acme is repeated"),
        ("models/0/slots", ["decoder"], "slots beside the common five"),
        ("models/0/presets/ci/maturity", "ref", "models[0].presets.ci.maturity: expected one of reference"),
        ("models/0/presets/ci/description", "two\nlines", "models[0].presets.ci.description: expected one line"),
        ("models/0/presets/ci/name", "acme:tiny", "models.acme.presets.ci.name: expected 'acme:ci'"),
        ("models/0/presets/ci/name", "other:ci", "models.acme.presets.ci.name: expected 'acme:ci'"),
        ("models/0/presets/ci/config", {"width": float("nan")}, "config.width: expected a text, a finite number"),
        ("models/0/presets/ci/config", {"when": object()}, "config.when"),
        ("models/0/presets/Large", {}, "models[0].presets.Large: expected a lower-case preset key"),
        ("models/0/presets/ci", {"params": "1"}, "models[0].presets.ci.description is missing"),
        ("aliases/acme", "acme:nope", "aliases.acme: expected a preset that exists"),
        ("aliases/acme", "acme", "aliases.acme: expected a preset such as 'dreamer:ci', not 'acme'"),
        ("aliases/acme:ci", "acme:large", "aliases.acme:ci: expected a name that is not already a preset"),
        ("components/0/slot", "tokenizer", "components.acme.zero.family: expected the family whose slot"),
        ("importers/0/target", "acme_world.weights", "importers[0].target: expected a target"),
        ("importers/0/target", "os:system('x')", "importers[0].target: expected a target"),
        ("formats/0/suffixes", ["acme"], "formats[0].suffixes[0]: expected the ending of a file such as '.acme'"),
        ("formats/0/markers", ["../acme.json"], "formats[0].markers[0]: expected a file within a folder"),
        ("formats/0/markers", ["/etc/passwd"], "formats[0].markers[0]: expected a file within a folder"),
        ("plugin_api_version", "1.0", "plugin_api_version: expected '1.1' or more, for formats, not '1.0'"),
    ],
)
def test_a_broken_rule_is_named_where_it_is_broken(path, value, says):
    with pytest.raises(ManifestError) as error:
        parse(changed(path, value))
    assert says in str(error.value)


@pytest.mark.parametrize("key", ["manifest_version", "name", "plugin_api_version", "worldflux_version_range"])
def test_a_missing_key_is_named(key):
    with pytest.raises(ManifestError, match=f"^{key} is missing"):
        parse({name: value for name, value in GOOD.items() if name != key})


def test_unknown_keys_are_reported_and_refused_only_when_strict():
    raw = changed("models/0/presets/ci/colour", "red")
    assert parse(raw)[1] == ["models[0].presets.ci.colour"]
    with pytest.raises(ManifestError, match=r"unknown key 'models\[0\].presets.ci.colour'"):
        parse(raw, strict=True)


def test_a_family_slot_names_its_family():
    raw = changed("components/0", {"id": "acme.zero", "slot": "tokenizer", "family": "acme"})
    assert parse(raw)[0].components[0].family == "acme"


def bones(schema: object) -> object:
    """The schema without prose, and without what pydantic versions spell differently."""
    if isinstance(schema, dict):
        prose = {key for key in ("title", "description") if isinstance(schema.get(key), str)}
        open_table = {"additionalProperties"} if schema.get("additionalProperties") is True else set()
        return {key: bones(value) for key, value in sorted(schema.items()) if key not in prose | open_table}
    return [bones(item) for item in schema] if isinstance(schema, list) else schema


def test_the_format_changes_only_with_its_snapshot():
    """A changed schema is a new plugin API: raise PLUGIN_API, note it in the changelog, then renew the snapshot."""
    assert bones(json_schema()) == json.loads(SNAPSHOT.read_text())
