"""``worldflux.toml``: everything about a plugin that is data, read without running any of its code.

The dataclasses below *are* the format. ``parse`` reads them with the standard library alone, because listing the
plugins must stay cheap; ``json_schema`` describes the same dataclasses with pydantic, for documentation and editors.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from packaging.specifiers import InvalidSpecifier, SpecifierSet

MANIFEST_VERSION = 1
FIVE_SLOTS = ("observation_encoder", "dynamics_model", "action_conditioner", "decoder", "rollout_executor")


class ManifestError(ValueError):
    """A manifest breaks a rule of the format; the message names the key and what was expected."""


@dataclass(frozen=True)
class Match:
    """Annotation of a string field: the whole value matches ``regex``, or it is not ``what``."""

    regex: str
    what: str

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^(?:{self.regex})$"}


Id = Annotated[str, Match(r"[a-z][a-z0-9]*([._-][a-z0-9]+)*", "an id such as 'dreamer' or 'acme.encoder'")]
Name = Annotated[str, Match(r"[a-z0-9][a-z0-9._-]*(:[a-z0-9][a-z0-9._-]*)?", "a lower-case name such as 'dreamer-ci'")]
PresetName = Annotated[str, Match(r"[a-z0-9][a-z0-9._-]*:[a-z0-9][a-z0-9._-]*", "a preset such as 'dreamer:ci'")]
Size = Annotated[str, Match(r"[a-z0-9][a-z0-9._-]*", "a lower-case preset key such as 'size12m'")]
Target = Annotated[str, Match(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", "a target 'package.module:callable'")]
ApiVersion = Annotated[str, Match(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})", "a plugin API version MAJOR.MINOR")]
DistName = Annotated[str, Match(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", "the name of a distribution")]
Text = Annotated[str, Match(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]*", "one line of text")]  # no terminal controls either
Slot = Annotated[str, Match(r"[a-z_][a-z0-9_]*", "the name of a slot")]
Section = Literal["models", "components", "backends", "importers", "commands"]
Event = Literal["model_created", "checkpoint_saved"]
Maturity = Literal["reference", "experimental", "skeleton"]
Tier = Literal["supported", "advanced", "experimental", "internal"]
_TIER_OF: dict[str, Tier] = {"reference": "supported", "experimental": "experimental", "skeleton": "internal"}


@dataclass(frozen=True)
class Preset:
    """One size of a family, ``[models.presets.KEY]``."""

    description: Text
    params: Text
    default_obs: Slot
    maturity: Maturity
    name: PresetName | None = None
    tier: Tier | None = None
    parity_role: Literal["ci_only", "reference_family", "proof_canonical"] | None = None
    display_name: Text | None = None
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def support_tier(self) -> Tier:
        """The tier stated, else what the parity role or the maturity imply."""
        return self.tier or ("advanced" if self.parity_role == "proof_canonical" else _TIER_OF[self.maturity])


@dataclass(frozen=True)
class Model:
    """A family, ``[[models]]``; ``slots`` are component slots beside the five every world model has."""

    id: Id
    description: Text = ""
    synonyms: tuple[Id, ...] = ()
    capabilities: tuple[Slot, ...] = ()
    slots: tuple[Slot, ...] = ()
    presets: dict[Size, Preset] = field(default_factory=dict)

    def preset_name(self, size: str) -> str:
        """The name under which the preset is listed, ``family:size`` unless it states another."""
        return self.presets[size].name or f"{self.id}:{size}"


@dataclass(frozen=True)
class Component:
    """A replaceable part, ``[[components]]``; ``family`` names the owner of a family-specific slot."""

    id: Id
    slot: Slot
    family: Id | None = None
    description: Text = ""
    experimental: bool = False


@dataclass(frozen=True)
class Backend:
    """A delegated way to run some presets, ``[[backends]]``; an empty ``models`` accepts every preset."""

    id: Id
    description: Text = ""
    models: tuple[PresetName, ...] = ()
    profile: Text = ""


@dataclass(frozen=True)
class Importer:
    """Official weights -> our model, ``[[importers]]``: ``target(source, config=...)`` returns a WorldModel."""

    id: Id
    target: Target
    description: Text = ""


@dataclass(frozen=True)
class Command:
    """A subcommand of ``worldflux``, ``[[commands]]``; its target is imported when it is run."""

    name: Id
    summary: Text
    target: Target

    @property
    def id(self) -> str:
        """Its name, which is its id among commands."""
        return self.name


@dataclass(frozen=True)
class Manifest:
    """The whole file."""

    manifest_version: int
    name: DistName
    plugin_api_version: ApiVersion
    worldflux_version_range: Text
    capabilities: tuple[Section, ...] = ()
    requires: tuple[Text, ...] = ()
    experimental: bool = False
    activation_events: tuple[Event, ...] = ()
    models: tuple[Model, ...] = ()
    aliases: dict[Name, PresetName] = field(default_factory=dict)
    components: tuple[Component, ...] = ()
    backends: tuple[Backend, ...] = ()
    importers: tuple[Importer, ...] = ()
    commands: tuple[Command, ...] = ()

    def owned(self) -> list[tuple[tuple[str, str], Any]]:
        """(kind, id) and table of everything that no other plugin may provide; a synonym counts as a model id."""
        tables = [(kind, item) for kind in get_args(Section) for item in getattr(self, kind)]
        return [((kind, name), item) for kind, item in tables for name in (item.id, *getattr(item, "synonyms", ()))]


def parse(raw: dict[str, Any], *, strict: bool = False) -> tuple[Manifest, list[str]]:
    """Read a decoded ``worldflux.toml``.

    Returns the manifest and the dotted paths of keys this kernel does not know.

    Raises:
        ManifestError: a rule of the format is broken, or, with ``strict``, a key is unknown.
    """
    unknown: list[str] = []
    try:
        manifest: Manifest = _read(Manifest, raw, "", unknown)
    except RecursionError:
        raise ManifestError("the file: expected values that are not nested so deeply") from None
    _check(manifest)
    if strict and unknown:
        raise ManifestError(f"unknown key {unknown[0]!r}")
    return manifest, unknown


def json_schema() -> dict[str, Any]:
    """The format as a JSON schema."""
    from pydantic import TypeAdapter  # only here: importing pydantic costs more than listing every plugin

    return TypeAdapter(Manifest).json_schema()


# What a TOML value is for each kind of field, and what to call it.
_TOML: dict[Any, tuple[type, str]] = {
    str: (str, "a text"),
    Annotated: (str, "a text"),
    int: (int, "a number"),
    bool: (bool, "true or false"),
    tuple: (list, "a list"),
    list: (list, "a list"),
    dict: (dict, "a table"),
}


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _read(kind: Any, value: Any, where: str, unknown: list[str]) -> Any:
    """Turn a TOML value into the annotated type ``kind``, or say at ``where`` it is wrong."""
    origin, args = get_origin(kind), get_args(kind)
    wanted, what = _TOML.get(origin or kind, (dict, "a table") if dataclasses.is_dataclass(kind) else (None, ""))
    _expect(wanted in (None, type(value)), where, f"{what}, not {value!r}")
    if kind is Any:  # config values travel through JSON: text, finite numbers, booleans, lists and tables of these
        fits = isinstance(value, (str, bool, int, dict, list)) or (isinstance(value, float) and math.isfinite(value))
        _expect(fits, where, f"a text, a finite number, true or false, not {value!r}")
        inner: dict[Any, Any] = {dict: dict[str, Any], list: list[Any]}
        return _read(inner[type(value)], value, where, unknown) if type(value) in inner else value
    if dataclasses.is_dataclass(kind):
        return _read_table(kind, value, where, unknown)
    if origin in (tuple, list):
        return origin(_read(args[0], item, f"{where}[{n}]", unknown) for n, item in enumerate(value))
    if origin is dict:
        keys = [_read(args[0], key, f"{where}.{key}", unknown) for key in value]
        return {key: _read(args[1], value[key], f"{where}.{key}", unknown) for key in keys}
    if type(None) in args:  # X | None: TOML has no null, so the key is absent or an X
        return _read(args[0], value, where, unknown)
    if origin is Annotated:
        _expect(re.fullmatch(args[1].regex, value, re.ASCII) is not None, where, f"{args[1].what}, not {value!r}")
    elif origin is Literal:
        _expect(value in args, where, f"one of {', '.join(args)}, not {value!r}")
    return value


def _read_table(cls: Any, table: dict[str, Any], where: str, unknown: list[str]) -> Any:
    values, hints = {}, _hints(cls)
    for f in dataclasses.fields(cls):
        at = f"{where}.{f.name}".lstrip(".")
        if f.name in table:
            values[f.name] = _read(hints[f.name], table[f.name], at, unknown)
        elif f.default is f.default_factory:  # both are missing
            raise ManifestError(f"{at} is missing")
    unknown.extend(f"{where}.{key}".lstrip(".") for key in table if key not in hints)
    return cls(**values)


def _expect(holds: bool, where: str, what: str) -> None:
    if not holds:
        raise ManifestError(f"{where or 'the file'}: expected {what}"[:400])


def _check(manifest: Manifest) -> None:
    """The rules that tie several keys together."""
    _expect(manifest.manifest_version == MANIFEST_VERSION, "manifest_version", f"{MANIFEST_VERSION}")
    try:
        SpecifierSet(manifest.worldflux_version_range)
    except InvalidSpecifier:
        wrong = manifest.worldflux_version_range
        raise ManifestError(f"worldflux_version_range: expected a range such as '>=0.1,<0.2', not {wrong!r}") from None
    for line in manifest.requires:
        from packaging.requirements import InvalidRequirement, Requirement  # rarely needed, and slow to import

        try:
            Requirement(line)
        except InvalidRequirement:
            raise ManifestError(f"requires: expected a requirement such as 'einops>=0.7', not {line!r}") from None
    lacking = {section for section in get_args(Section) if getattr(manifest, section)} - set(manifest.capabilities)
    _expect(not lacking, "capabilities", f"every section the file has; {', '.join(sorted(lacking))} is not named")
    owned = [f"{kind}:{name}" for (kind, name), _ in manifest.owned()]
    twice = sorted({name for name in owned if owned.count(name) > 1})
    _expect(not twice, "", f"each name once; {', '.join(twice)} is repeated")
    for component in manifest.components:
        own_slot = component.slot in FIVE_SLOTS or component.family is not None
        _expect(own_slot, f"components.{component.id}.family", f"the family whose slot {component.slot!r} is")
    families = {name: model for model in manifest.models for name in (model.id, *model.synonyms)}
    for model in manifest.models:
        _expect(not set(model.slots) & set(FIVE_SLOTS), f"models.{model.id}.slots", "slots beside the common five")
        for size in model.presets:
            fits = model.preset_name(size) in [f"{name}:{size}" for name in (model.id, *model.synonyms)]
            _expect(fits, f"models.{model.id}.presets.{size}.name", f"'{model.id}:{size}' or a synonym of it")
    for alias, target in manifest.aliases.items():
        family, _, size = target.partition(":")
        shadowed, _, key = alias.partition(":")
        owner = families.get(shadowed)
        shadows = owner is not None and (key in owner.presets or owner is not families.get(family))
        _expect(not shadows, f"aliases.{alias}", "a name that is not already a preset, or another family's")
        exists = family not in families or size in families[family].presets
        _expect(exists, f"aliases.{alias}", f"a preset that exists, not {target!r}")
