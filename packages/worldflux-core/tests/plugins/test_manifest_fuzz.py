"""Thousands of damaged manifests: each is served or rejected with a reason, and the served ones break no rule.

The rules are told a second time in manifest_rules.py, so that the two tellings check each other.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import importlib.util
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import importlib_metadata
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from pydantic import TypeAdapter

from worldflux.core.errors import ConfigurationError
from worldflux.plugins.catalog import Catalog
from worldflux.plugins.discovery import find_plugins, read_manifest
from worldflux.plugins.manifest import Manifest, ManifestError, parse

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXAMPLES = 5_000
SPEC = importlib.util.spec_from_file_location("manifest_rules", Path(__file__).with_name("manifest_rules.py"))
RULES = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(RULES)
PYDANTIC = TypeAdapter(Manifest)  # reads the same dataclasses, with none of our code
FULL = """
manifest_version = 1
name = "full-family"
plugin_api_version = "1.1"
worldflux_version_range = ">=0.1,<0.2"
capabilities = ["models", "components", "backends", "importers", "commands", "formats"]
requires = ["pluggy>=1", "absent; python_version < '3'"]
experimental = true
activation_events = ["model_created"]
[[models]]
id = "full"
synonyms = ["fullv2"]
capabilities = ["reward"]
slots = ["tokenizer"]
presets.ci = {description = "Small", params = "~1M", default_obs = "image", maturity = "reference", config = {a = [1]}}
presets.big = {name = "fullv2:big", description = "Big", params = "~9M", default_obs = "image", maturity = "skeleton"}
[[models]]
id = "other"
[[components]]
id = "full.tokens"
slot = "tokenizer"
family = "full"
[[components]]
id = "full.zero"
slot = "decoder"
experimental = true
[[backends]]
id = "full_remote"
models = ["full:ci"]
[[importers]]
id = "official-full"
target = "full_family.weights:load"
[[commands]]
name = "full-probe"
summary = "Look"
target = "full_family.cli.main:probe"
[[formats]]
id = "full.rows"
description = "Rows"
suffixes = [".full", ".full.gz"]
markers = ["meta/info.json", ".fullrc"]
[aliases]
full = "fullv2:big"
full-small = "full:ci"
"fullv2:official" = "full:big"
elsewhere = "dreamer:ci"
"""


# Valid manifests, and what happens to them


def seed(text: str):
    raw = tomllib.loads(text)
    return SimpleNamespace(name=raw["name"], package=raw["name"].replace("-", "_"), raw=raw, points=points_of(raw))


def points_of(raw):
    """The entry points a distribution with this manifest would declare."""

    def ids(section):
        items = raw.get(section) if isinstance(raw.get(section), list) else []
        names = [item.get("id") for item in items if isinstance(item, dict)]
        return sorted({name for name in names if RULES.is_id(name)})

    return SimpleNamespace(models=ids("models"), components=ids("components"))


SEEDS = [seed(FULL), seed((Path(__file__).parent / "toy_family.toml").read_text(encoding="utf-8"))]
with contextlib.suppress(ManifestError):  # unless the kernel is tested alone
    SEEDS.append(seed(read_manifest("worldflux_dreamer.plugin").decode()))


def paths(value, at=()) -> list[tuple]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, item in items for path in ((*at, key), *paths(item, (*at, key)))]


def places(raw):
    """For each key there is, where it stands; so that the one version number is hit as often as the many presets."""
    found: dict = {}
    for path in paths(raw):
        found.setdefault([key for key in path if isinstance(key, str)][-1], []).append(path)
    return st.sampled_from([st.sampled_from(where) for where in found.values()]).flatmap(lambda where: where)


for one in SEEDS:
    one.places = places(one.raw)
#: Values that are nearly right, or right, for their key.
NEAR = {
    "manifest_version": [2, 0, True, 1.0, "1"],
    "name": ["toy_Family", "Toy.Family", "toy--family", "full_family", "WORLDFLUX.dreamer", "toy-family-", "toyv2:ci"],
    "plugin_api_version": ["1.0", "1.1", "1.2", "2.0", "0.9", "1.0.0", "01.0", "1", 1.0],
    "worldflux_version_range": [">=0.2", "<0.1", "", "==0.1.*", "===x", "about 0.1"],
    "capabilities": [["models"], ["models", "components", "backends", "importers"], ["magic"]],
    "requires": [["no-such-thing"], ["pluggy<1"], ["no-such-thing; python_version<'3'"], ["a b"], ["pluggy\n"]],
    "experimental": [True, 1, "true"],
    "activation_events": [["checkpoint_saved"], ["import"]],
    "id": ["tdmpc2", "planet-small", "toys", "Toy", "full", "toy", "official-toy"],
    "synonyms": [
        ["toy"],
        ["toyv2", "toyv2"],
        ["fullv2", "other"],
        ["a"],
        ["toyv2", "tdmpc2"],
        ["toyv2", "jepa-large"],
        ["fullv2", "gan"],
        ["fullv2", "planet"],
        ["dreamerv3", "token-ci"],
    ],
    "slots": [["decoder"], ["rollout_executor", "mine"], ["mine"], ["Mine"]],
    "slot": ["decoder", "tokenizer", "Decoder"],
    "family": ["full", "nobody", "No"],
    "default_obs": ["image", "Image"],
    "params": ["", "~1M", "1\n"],
    "config": [{"a": math.nan}, {"a": [math.inf]}, {"a": datetime.date(2020, 1, 1)}, {"a": {"b": [1, {}]}}],
    "aliases": [{"toy:ci": "toy:new"}, {"full:ci": "full:big"}, {"toy": "full:ci"}, {"x": "toy"}, {"toy:x": "toy:ci"}],
    "suffixes": [[".a", ".B-c.d"], ["a"], ["."], [".a/b"], [".a."], [".é"]],
    "markers": [["a"], ["a/b.c/.d"], ["../a"], ["/a"], ["a/"], ["a//b"], [".."], ["a/.."], ["-a"], ["é"]],
    "target": ["PACKAGE.é:x", "PACKAGE:²", "PACKAGE.a.:x", "PACKAGE:run", "os:system", "PACKAGEs:run", "PACKAGE:a.b"],
}
KEYS = sorted(
    {key for table in RULES.TABLES.values() for key in table} | {*RULES.SECTIONS, "presets", "aliases", "colour"}
)
KEYS += ["", "a b", "é", "a\nb", "\x1b", "Ci", "toy:ci", "toyv2:new", "dreamer", "elsewhere", "1"]
NASTY = [
    True, False, 0, 1, 2, -1, 10**400, 1.0, 1e-400, math.inf, math.nan, datetime.date(2020, 1, 1),
    datetime.time(1, 2), [], {}, [[]], [{}], [1], {"a": {"b": [1.5, "x"]}}, {"ci": {}}, ["toy"], ["models"],
    ["decoder"], ["model_created"], "", " ", "toy", "toyv2", "toy:ci", "toyv2:size12", "toy.zero", "full", "full:ci",
    "dreamer", "dreamer:ci", "dreamer-ci", "tdmpc2", "tdmpc2:5m", "planet-small", "1.0", "1.1", "2.0", "0.9", "01.0",
    "1.0.0", ">=0.1", "<0.1", "==0.1.*", "~=0.1.0", "===x", "0.1", "decoder", "tokenizer", "reference", "internal",
    "ci_only", "pluggy>=1", "pluggy<1", "no-such-thing", "no-such-thing; python_version<'3'",
    "x @ https://e.org/x.whl", "os:system", "toy_family.plugin:load", "toy_family:1", "full_family.é:x",
    "full_family.a.:x", "full_family.plugin:²", "toy_family", "A", "é", "ⅷ", "a\nb", "toy\n", "\x1b[31m", "\x9b1m",
    "\u2028", "\u202e", "\x85", "a" * 300, ":", "a:", ":a", "a::b", "-a", "a-", "a--b", "a.b", "a_b", "1a",
    "worldflux-dreamer", "toy_Family",
]  # fmt: skip
WHICH = st.sampled_from([0, 0, 0, 1, 1, len(SEEDS) - 1])  # the last is large, and slow to read
HOW_OFTEN, COIN, EIGHTH, SPOT = st.sampled_from([1, 1, 1, 2, 3]), st.booleans(), st.integers(0, 7), st.integers(0, 9999)
NEARLY = {key: st.sampled_from(values) for key, values in NEAR.items()}
HOW = st.sampled_from(["near", "near", "near", "set", "text", "text", "remove", "rename", "add", "copy", "wrap"])
KEY, VALUE = st.sampled_from(KEYS), st.sampled_from(NASTY)
LETTER = st.sampled_from([*"aZ0:.-_ é\n\x00=[]{}#'\"", ""])


@st.composite
def damaged(draw):
    """(seed, manifest as text, entry points): a valid manifest after up to three changes, and perhaps of its text."""
    one = SEEDS[draw(WHICH)]
    raw = copy.deepcopy(one.raw)
    for _ in range(draw(HOW_OFTEN)):
        change(draw, raw, one)
    points = points_of(raw) if draw(COIN) else copy.deepcopy(one.points)  # whether the author kept them in step
    if draw(EIGHTH) == 0:
        names = points.models if draw(COIN) else points.components
        names[:1] = [] if draw(COIN) else ["added", *names[:1]]
    text = "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in raw.items())
    if draw(EIGHTH) == 0:
        at = draw(SPOT) % (len(text) + 1)
        text = text[:at] + draw(LETTER) + text[at + draw(EIGHTH) :]
    return one, text, points if points.models or points.components else one.points


def change(draw, raw, one) -> None:
    path = draw(one.places)
    at = raw
    try:
        for key in path[:-1]:
            at = at[key]
        old = at[path[-1]]
    except (KeyError, IndexError, TypeError):
        return  # an earlier change took it away
    if isinstance(at, str):
        return
    key = path[-1]
    how = draw(HOW)
    if how == "text" and isinstance(old, str):
        spot = draw(SPOT) % (len(old) + 1)
        at[key] = old[:spot] + draw(LETTER) + old[spot + draw(COIN) :]
    elif how == "near" and key in NEAR:
        value = copy.deepcopy(draw(NEARLY[key]))
        at[key] = value.replace("PACKAGE", one.package) if isinstance(value, str) else value
    elif how == "remove":
        del at[key]
    elif how == "rename" and isinstance(at, dict):
        at[draw(KEY)] = at.pop(key)
    elif how == "add" and isinstance(old, list):
        old.append(nasty(draw) if not old or draw(COIN) else copy.deepcopy(old[-1]))
    elif how == "add" and isinstance(old, dict):
        old[draw(KEY)] = nasty(draw)
    elif how == "copy":
        other = raw
        for step in draw(one.places):
            other = other[step] if isinstance(other, dict) and step in other else other
        at[key] = copy.deepcopy(other) if other is not raw else old
    elif how == "wrap":
        at[key] = [old] if draw(COIN) else {str(key): old}
    else:
        at[key] = nasty(draw)


def nasty(draw):
    return copy.deepcopy(draw(VALUE))


def toml(value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


class Installed(importlib_metadata.Distribution):
    """A distribution of which only the metadata exist."""

    def __init__(self, seed, points) -> None:
        text = "[worldflux.models]\n" + "".join(f"{name} = {seed.package}.plugin\n" for name in points.models)
        text += "[worldflux.components]\n" + "".join(f"{name} = {seed.package}.plugin\n" for name in points.components)
        metadata = f"Metadata-Version: 2.1\nName: {seed.name}\nVersion: 1.0\n"
        self.files_of_it = {"entry_points.txt": text, "METADATA": metadata}

    def read_text(self, filename):
        return self.files_of_it.get(filename)

    def locate_file(self, path):
        raise AssertionError("nothing but the metadata is looked at")


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder on the path with a package for each seed; returns where its manifest goes."""
    root = tmp_path_factory.mktemp("packages")
    for one in SEEDS:
        if not one.package.startswith("worldflux_"):  # ours are in the packages of their names
            one.package = f"fuzzed_{one.package}"
        one.raw = json.loads(json.dumps(one.raw).replace(one.package.removeprefix("fuzzed_"), one.package))
        (root / one.package).mkdir()
        (root / one.package / "__init__.py").write_text("raise AssertionError('imported')")
    sys.path.insert(0, str(root))
    yield root
    sys.path.remove(str(root))


served = {"indexed": 0, "rejected": 0}


def judge(packages, seed, text, points):
    """What the kernel says of a distribution with this manifest."""
    (packages / seed.package / "worldflux.toml").write_text(text, encoding="utf-8")
    found = find_plugins([Installed(seed, points)], "0.1.0")
    return (*found, Catalog(found))


@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(case=damaged())
def fuzz(packages, case):
    seed, text, points = case
    plugin, catalog = judge(packages, seed, text, points)
    served[plugin.state] += 1
    json.dumps(plugin.to_dict())
    assert plugin.problem.isprintable()
    try:
        raw = tomllib.loads(text)
    except ValueError:
        assert plugin.reason.startswith("broken worldflux.toml: ")
        return
    rules = RULES.broken_rules(raw, seed, points)
    assert (plugin.state == "rejected") == bool(rules), (plugin.problem, rules)
    assert bool(plugin.reason) == bool(rules)
    try:
        manifest, _ = parse(raw)  # raises this and nothing else
    except ManifestError:
        assert rules
    if not rules:
        PYDANTIC.validate_python(raw)
        assert manifest == plugin.manifest
        for name in [*(found.model_id for found in catalog.presets), *catalog.families, *catalog.aliases]:
            with contextlib.suppress(
                ConfigurationError
            ):  # an alias into a package that is absent; a family of many sizes
                assert catalog.resolve(name).family


def test_five_thousand_damaged_manifests_are_served_or_rejected_by_the_rules_and_nothing_else_happens(packages):
    for one in SEEDS:
        text = "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in one.raw.items())
        assert judge(packages, one, text, one.points)[0].state == "indexed"
    fuzz(packages)
    assert sum(served.values()) >= EXAMPLES
    assert min(served.values()) > EXAMPLES / 20, served  # both verdicts are really tried
