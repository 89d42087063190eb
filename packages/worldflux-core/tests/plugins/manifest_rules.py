"""The rules of a manifest told a second time, by hand and from the documentation, to judge the kernel's telling.

A plugin is accepted exactly when no rule is broken; none of the kernel's own code is used here.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator

import importlib_metadata
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

FIVE = {"observation_encoder", "dynamics_model", "action_conditioner", "decoder", "rollout_executor"}
SECTIONS = ("models", "components", "backends", "importers", "commands", "formats")
OURS = {
    "worldflux-dreamer": {"dreamer", "dreamerv3", "planet"},
    "worldflux-tdmpc": {"tdmpc2", "tdmpc"},
    "worldflux-jepa": {"jepa", "vjepa2", "v-jepa2", "vjepa2-ac", "external"},
    "worldflux-generative": {"token", "diffusion", "dit", "ssm", "renderer3d", "physics", "gan"},
}
LOWER, DIGITS = set("abcdefghijklmnopqrstuvwxyz"), set("0123456789")


def is_line(value):
    """One line of text that does nothing to a terminal."""
    return isinstance(value, str) and not any(unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") for c in value)


def is_id(value):
    parts = re.split("[._-]", value) if isinstance(value, str) else [""]
    return all(part and set(part) <= LOWER | DIGITS for part in parts) and value[0] in LOWER


def is_size(value):
    return (
        isinstance(value, str)
        and value != ""
        and value[0] in LOWER | DIGITS
        and set(value) <= LOWER | DIGITS | set("._-")
    )


def is_preset(value):
    return isinstance(value, str) and value.count(":") == 1 and all(map(is_size, value.split(":")))


def is_name(value):
    return is_size(value) or is_preset(value)


def is_slot(value):
    return isinstance(value, str) and value.isascii() and value.isidentifier() and value == value.lower()


def is_target(value):
    pieces = value.split(":") if isinstance(value, str) else []
    return (
        len(pieces) == 2
        and "." not in pieces[1]
        and all(p.isascii() and p.isidentifier() for p in re.split("[.:]", value))
    )


def is_file_word(value, more):
    return value != "" and set(value) <= LOWER | {letter.upper() for letter in LOWER} | DIGITS | set("_+-" + more)


def is_suffix(value):
    return (
        isinstance(value, str)
        and value.startswith(".")
        and all(is_file_word(part, "") for part in value[1:].split("."))
    )


def is_marker(value):
    """A path down from a folder, none of whose steps leads up or could be taken for an option."""
    steps = value.split("/") if isinstance(value, str) else [""]
    bare = [step.removeprefix(".") for step in steps]
    return all(is_file_word(step, ".") and step[0] not in ".+-" for step in bare)


def is_distribution(value):
    return (
        isinstance(value, str)
        and value.isascii()
        and re.fullmatch("[a-z0-9]|[a-z0-9][a-z0-9._-]*[a-z0-9]", value.lower()) is not None
    )


def is_bool(value):
    return value is True or value is False


def one_of(*allowed):
    return lambda value: isinstance(value, str) and value in allowed


def every(check):
    return lambda value: isinstance(value, list) and all(map(check, value))


def is_plain(value):
    """Whether a config value survives JSON."""
    if isinstance(value, dict):
        return all(map(is_plain, value.values()))
    if isinstance(value, list):
        return all(map(is_plain, value))
    return isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value))


TABLES = {  # key -> (check, required)
    "manifest": {
        "manifest_version": (lambda value: type(value) is int and value == 1, True),
        "name": (is_distribution, True),
        "plugin_api_version": (one_of("1.0", "1.1"), True),
        "worldflux_version_range": (is_line, True),
        "capabilities": (every(one_of(*SECTIONS)), False),
        "requires": (every(is_line), False),
        "experimental": (is_bool, False),
        "activation_events": (every(one_of("model_created", "checkpoint_saved")), False),
    },
    "models": {
        "id": (is_id, True),
        "description": (is_line, False),
        "synonyms": (every(is_id), False),
        "capabilities": (every(is_slot), False),
        "slots": (every(is_slot), False),
    },
    "presets": {
        "description": (is_line, True),
        "params": (is_line, True),
        "default_obs": (is_slot, True),
        "maturity": (one_of("reference", "experimental", "skeleton"), True),
        "name": (is_preset, False),
        "tier": (one_of("supported", "advanced", "experimental", "internal"), False),
        "parity_role": (one_of("ci_only", "reference_family", "proof_canonical"), False),
        "display_name": (is_line, False),
        "config": (lambda value: isinstance(value, dict) and is_plain(value), False),
    },
    "components": {
        "id": (is_id, True),
        "slot": (is_slot, True),
        "family": (is_id, False),
        "description": (is_line, False),
        "experimental": (is_bool, False),
    },
    "backends": {
        "id": (is_id, True),
        "description": (is_line, False),
        "models": (every(is_preset), False),
        "profile": (is_line, False),
    },
    "importers": {"id": (is_id, True), "target": (is_target, True), "description": (is_line, False)},
    "commands": {"name": (is_id, True), "summary": (is_line, True), "target": (is_target, True)},
    "formats": {
        "id": (is_id, True),
        "description": (is_line, False),
        "suffixes": (every(is_suffix), False),
        "markers": (every(is_marker), False),
    },
}


def broken_keys(kind, table) -> Iterator[str]:
    if not isinstance(table, dict):
        yield f"{kind} is a table"
        return
    for key, (check, required) in TABLES[kind].items():
        if key not in table:
            if required:
                yield f"{kind} have {key}"
        elif not check(table[key]):
            yield f"{kind}.{key}"


def broken_rules(raw, seed, points) -> list[str]:
    """The rules that a decoded manifest breaks; the later ones make sense only where the earlier hold."""
    rules = list(broken_keys("manifest", raw))
    if re.sub("[-_.]+", "-", str(raw.get("name"))).lower() != seed.name:
        rules.append("the name is the distribution's")
    for section in SECTIONS:
        if not isinstance(raw.get(section, []), list):
            rules.append(f"{section} is a list")
            continue
        for item in raw.get(section, []):
            rules += broken_keys(section, item)
            presets = item.get("presets", {}) if section == "models" and isinstance(item, dict) else {}
            if not isinstance(presets, dict):
                rules.append("presets is a table")
                continue
            for size, preset in presets.items():
                rules += broken_keys("presets", preset) if is_size(size) else ["a size is lower case"]
    aliases = raw.get("aliases", {})
    if not isinstance(aliases, dict) or not all(is_name(k) and is_preset(v) for k, v in aliases.items()):
        rules.append("aliases map names to presets")
    return rules or [*broken_ties(raw, seed), *broken_points(raw, seed, points)]


def broken_ties(raw, seed) -> Iterator[str]:
    """Rules that tie several keys together."""
    try:
        if not SpecifierSet(raw["worldflux_version_range"]).contains("0.1.0", prereleases=True):
            yield "the range has this kernel"
    except InvalidSpecifier:
        yield "the range is one"
    for line in raw.get("requires", []):
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            yield "requires are requirements"
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            try:
                met = requirement.specifier.contains(importlib_metadata.version(requirement.name), prereleases=True)
            except importlib_metadata.PackageNotFoundError:
                met = False
            if not met:
                yield "requires are met"
    for section in SECTIONS:
        if raw.get(section) and section not in raw.get("capabilities", []):
            yield "capabilities name the sections there are"
        if section == "formats" and section in raw.get("capabilities", []) and raw["plugin_api_version"] == "1.0":
            yield "formats came with 1.1"
        names = [item.get("id", item.get("name")) for item in raw.get(section, [])]
        if section == "models":
            names += [name for model in raw.get("models", []) for name in model.get("synonyms", [])]
        if len(set(names)) != len(names):
            yield "no name twice"
        for name in names if section == "models" else ():
            home = [dist for dist, ids in OURS.items() if any(is_of(name, id) for id in ids)]
            if home and seed.name not in home:
                yield "our ids stay ours"
    family_of = {name: model for model in raw.get("models", []) for name in (model["id"], *model.get("synonyms", []))}
    for model in raw.get("models", []):
        if FIVE & set(model.get("slots", [])):
            yield "slots beside the five"
        for size, preset in model.get("presets", {}).items():
            family, _, stated = preset.get("name", f"{model['id']}:{size}").partition(":")
            if stated != size or family not in (model["id"], *model.get("synonyms", [])):
                yield "a preset is named after its family and key"
    for component in raw.get("components", []):
        if component["slot"] not in FIVE and "family" not in component:
            yield "a family's slot names the family"
    for alias, target in raw.get("aliases", {}).items():
        family, _, size = target.partition(":")
        if family in family_of and size not in family_of[family].get("presets", {}):
            yield "an alias means a preset that is there"
        head, _, size = alias.partition(":")
        if head in family_of and size in family_of[head].get("presets", {}):
            yield "an alias is no preset"
        if head in family_of and family_of.get(family) is not family_of[head]:
            yield "a family's name means that family"


def is_of(name, id):
    return name == id or (
        name.startswith(f"{id}-") and name[len(id) + 1 :] in "ci small medium large legacy proof".split()
    )


def broken_points(raw, seed, points) -> Iterator[str]:
    """Entry points and manifest say the same."""
    models, components = ({item["id"] for item in raw.get(kind, [])} for kind in ("models", "components"))
    beside = {item["id"] for kind in ("backends", "importers", "formats") for item in raw.get(kind, [])}
    if not models <= set(points.models) <= models | beside | set(raw.get("aliases", {})):
        yield "a model is an entry point"
    if set(points.components) != components:
        yield "a component is an entry point"
    for item in raw.get("importers", []) + raw.get("commands", []):
        if re.split("[.:]", item["target"])[0] != seed.package:
            yield "a target is in the plugin's own package"
