"""``worldflux.toml``: everything about a plugin that is data, read without running any of its code.

The dataclasses below *are* the format. ``parse`` reads them with the standard library alone, because listing the
plugins must stay cheap; ``json_schema`` describes the same dataclasses with pydantic, for documentation and editors.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from packaging.specifiers import SpecifierSet

from worldflux.core.text import UNSEEN

MANIFEST_VERSION = 1
#: What no manifest needs more of: bytes, keys and items, levels, characters of a text, items of a list, presets.
MAX_BYTES, MAX_VALUES, MAX_DEPTH, MAX_TEXT, MAX_ITEMS, MAX_PRESETS = 2 << 20, 120_000, 16, 1000, 1000, 10_000
FIVE_SLOTS = ("observation_encoder", "dynamics_model", "action_conditioner", "decoder", "rollout_executor")


class ManifestError(ValueError):
    """A manifest breaks a rule of the format; the message names the key and what was expected."""


@dataclass(frozen=True)
class Match:
    """Annotation of a string field: the whole value matches ``regex``, or it is not ``what``."""

    regex: str
    what: str
    pattern = functools.cached_property(lambda self: re.compile(self.regex, re.ASCII))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        ecma = re.sub(r"\\U000(\w{5})", r"\\u{\1}", self.regex)  # JSON schemas write the later planes another way
        return {**handler(schema), "pattern": f"^(?:{ecma})$"}


Id = Annotated[str, Match(r"[a-z][a-z0-9]*([._-][a-z0-9]+)*", "an id such as 'dreamer' or 'acme.encoder'")]
Name = Annotated[str, Match(r"[a-z0-9][a-z0-9._-]*(:[a-z0-9][a-z0-9._-]*)?", "a lower-case name such as 'dreamer-ci'")]
PresetName = Annotated[str, Match(r"[a-z0-9][a-z0-9._-]*:[a-z0-9][a-z0-9._-]*", "a preset such as 'dreamer:ci'")]
Size = Annotated[str, Match(r"[a-z0-9][a-z0-9._-]*", "a lower-case preset key such as 'size12m'")]
Target = Annotated[str, Match(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", "a target 'package.module:callable'")]
ApiVersion = Annotated[str, Match(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})", "a plugin API version MAJOR.MINOR")]
DistName = Annotated[str, Match(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", "the name of a distribution")]
Text = Annotated[str, Match(f"[^{UNSEEN}]*", "one line of text, all of it visible")]
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
    id = property(lambda self: self.name)  # as the others have one


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


# Strings, closed or not, and comments: what is left of a TOML file without them shows how it is built.
_PROSE = re.compile(
    r"""(?s)"{3}(?:[^\\]|\\.)*?(?:"{3}|\Z)|'{3}.*?(?:'{3}|\Z)|"(?:[^"\\\n]|\\[^\n])*"?|'[^'\n]*'?|#[^\n]*"""
)


def load(content: bytes) -> dict[str, Any]:
    """Decode ``worldflux.toml``.

    Raises:
        ManifestError: it is not TOML, or beyond the limits; they are judged first, because a parser takes a time that
            is quadratic in the length of a dotted key.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    _expect(len(content) <= MAX_BYTES, "", f"at most {MAX_BYTES:,} bytes")
    try:
        text = content.decode()
        bones = _PROSE.sub("_", text)
        _expect(sum(map(bones.count, "=,[")) <= MAX_VALUES, "", f"at most {MAX_VALUES:,} keys and values")
        longest = max(part.count(".") for part in re.split(r"[=,\[\]{}\n]", bones))
        steps = (1 if bracket in "[{" else -1 for bracket in re.findall(r"[\[\]{}]", bones))
        _expect(max(longest, *accumulate(steps), 0) <= MAX_DEPTH, "", "values that are not nested so deeply")
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a limit, bad TOML, bad UTF-8, numbers of too many digits
        raise ManifestError(str(error)) from None


def parse(raw: dict[str, Any], *, strict: bool = False) -> tuple[Manifest, list[str]]:
    """Read a decoded ``worldflux.toml``.

    Returns the manifest and the dotted paths of keys this kernel does not know.

    Raises:
        ManifestError: a rule of the format is broken, or, with ``strict``, a key is unknown.
    """
    unknown: list[str] = []
    manifest: Manifest = _read(Manifest, raw, "", unknown)
    _check(manifest)
    if strict and unknown:
        raise ManifestError(f"unknown key {unknown[0]!r}")
    return manifest, unknown


def json_schema() -> dict[str, Any]:
    """The format as a JSON schema."""
    from pydantic import TypeAdapter  # only here: importing pydantic costs more than listing every plugin

    return TypeAdapter(Manifest).json_schema()


# What TOML has, and what to call it; tuples are read from lists, and dataclasses from tables.
_TOML = {str: "a text", int: "a number", bool: "true or false", list: "a list", dict: "a table"}
_INSIDE: dict[type, Any] = {dict: dict[str, Any], list: list[Any]}  # what config values are made of


@functools.cache
def _shape(kind: Any) -> tuple[Any, tuple[Any, ...], Any]:
    """What an annotation asks for: its origin, its arguments, and the TOML type."""
    origin = get_origin(kind) or kind
    table = dict if dataclasses.is_dataclass(kind) else origin
    return origin, get_args(kind), {Annotated: str, tuple: list}.get(origin, table)


@functools.cache
def _keys(cls: type) -> dict[str, tuple[Any, bool]]:
    """The keys of a table: the annotation of each, and whether it must be there."""
    hints = get_type_hints(cls, include_extras=True)
    return {f.name: (hints[f.name], f.default is f.default_factory) for f in dataclasses.fields(cls)}


def _read(kind: Any, value: Any, where: str, unknown: list[str]) -> Any:
    """Turn a TOML value into the annotated type ``kind``, or say at ``where`` it is wrong."""
    origin, args, wanted = _shape(kind)
    _expect(wanted not in _TOML or wanted is type(value), where, _TOML.get(wanted, ""), value)
    if kind is Any:  # config values travel through JSON: text, finite numbers, booleans, lists and tables of these
        fits = type(value) in _TOML or (isinstance(value, float) and math.isfinite(value))
        _expect(fits, where, "a text, a finite number, true or false", value)
        return _read(_INSIDE[type(value)], value, where, unknown) if type(value) in _INSIDE else value
    if origin in (tuple, list):
        _expect(len(value) <= MAX_ITEMS or args[0] is Any, where, f"at most {MAX_ITEMS:,} items")
        return origin([_read(args[0], item, f"{where}[{n}]", unknown) for n, item in enumerate(value)])
    if origin is dict:
        keys = [_read(args[0], key, f"{where}.{key}", unknown) for key in value]
        return {key: _read(args[1], value[key], f"{where}.{key}", unknown) for key in keys}
    if wanted is dict:
        return _read_table(kind, value, where, unknown)
    if type(None) in args:  # X | None: TOML has no null, so the key is absent or an X
        return _read(args[0], value, where, unknown)
    if origin is Annotated:
        _expect(len(value) <= MAX_TEXT, where, f"at most {MAX_TEXT:,} characters")
        _expect(args[1].pattern.fullmatch(value) is not None, where, args[1].what, value)
    elif origin is Literal:
        _expect(value in args, where, f"one of {', '.join(args)}", value)
    return value


def _read_table(cls: Any, table: dict[str, Any], where: str, unknown: list[str]) -> Any:
    keys = _keys(cls)
    at = {name: f"{where}.{name}".lstrip(".") for name in (*keys, *table)}
    for name, (_, needed) in keys.items():
        if needed and name not in table:
            raise ManifestError(f"{at[name]} is missing")
    unknown.extend(at[name] for name in table if name not in keys)
    return cls(**{name: _read(keys[name][0], table[name], at[name], unknown) for name in keys if name in table})


def _expect(holds: bool, where: str, what: str, *got: Any) -> None:
    """Raises ManifestError, which shows what was ``got``, unless the rule holds."""
    if not holds:
        found = "".join(f", not {value!r}" for value in got)
        raise ManifestError(f"{where or 'the file'}: expected {what}{found}"[:400])


def _check(manifest: Manifest) -> None:
    """The rules that tie several keys together."""
    _expect(manifest.manifest_version == MANIFEST_VERSION, "manifest_version", f"{MANIFEST_VERSION}")
    try:
        SpecifierSet(manifest.worldflux_version_range)
    except ValueError:
        wrong = manifest.worldflux_version_range
        raise ManifestError(f"worldflux_version_range: expected a range such as '>=0.1,<0.2', not {wrong!r}") from None
    for line in manifest.requires:
        from packaging.requirements import Requirement  # rarely needed, and slow to import

        try:
            Requirement(line)
        except ValueError:
            raise ManifestError(f"requires: expected a requirement such as 'einops>=0.7', not {line!r}") from None
    lacking = {section for section in get_args(Section) if getattr(manifest, section)} - set(manifest.capabilities)
    _expect(not lacking, "capabilities", f"every section the file has; {', '.join(sorted(lacking))} is not named")
    owned = Counter(f"{kind}:{name}" for (kind, name), _ in manifest.owned())
    twice = sorted(name for name, count in owned.items() if count > 1)
    _expect(not twice, "", f"each name once; {', '.join(twice)} is repeated")
    names = len(manifest.aliases) + sum(len(model.presets) for model in manifest.models)
    _expect(names <= MAX_PRESETS, "models", f"at most {MAX_PRESETS:,} presets and aliases")
    for component in manifest.components:
        own_slot = component.slot in FIVE_SLOTS or component.family is not None
        _expect(own_slot, f"components.{component.id}.family", f"the family whose slot {component.slot!r} is")
    families = {name: model for model in manifest.models for name in (model.id, *model.synonyms)}
    for model in manifest.models:
        _expect(not set(model.slots) & set(FIVE_SLOTS), f"models.{model.id}.slots", "slots beside the common five")
        for size in model.presets:
            family, _, key = model.preset_name(size).partition(":")
            fits = families.get(family) is model and key == size
            _expect(fits, f"models.{model.id}.presets.{size}.name", f"'{model.id}:{size}' or a synonym of it")
    for alias, target in manifest.aliases.items():
        family, _, size = target.partition(":")
        shadowed, _, key = alias.partition(":")
        owner = families.get(shadowed)
        shadows = owner is not None and (key in owner.presets or owner is not families.get(family))
        _expect(not shadows, f"aliases.{alias}", "a name that is not already a preset, or another family's")
        exists = family not in families or size in families[family].presets
        _expect(exists, f"aliases.{alias}", "a preset that exists", target)
