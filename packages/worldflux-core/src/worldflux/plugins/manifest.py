"""``worldflux.toml``: everything about a plugin that is data, read without running any of its code.

The dataclasses below *are* the format: ``parse`` reads them, and ``json_schema`` describes them with pydantic, for
documentation and editors.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from packaging.specifiers import SpecifierSet

from worldflux.strangers.tables import Match, Parses, TableError, expect, read
from worldflux.strangers.text import UNSEEN

MANIFEST_VERSION = 1
MAX_PRESETS = 10_000
ManifestError = TableError  # a rule of the format is broken; the message names the key and what was expected
FIVE_SLOTS = ("observation_encoder", "dynamics_model", "action_conditioner", "decoder", "rollout_executor")

Id = Annotated[str, Match(r"[a-z][a-z0-9]*([._-][a-z0-9]+)*", "an id such as 'dreamer' or 'acme.encoder'")]
Name = Annotated[str, Match(r"[a-z0-9][a-z0-9._-]*(:[a-z0-9][a-z0-9._-]*)?", "a lower-case name such as 'dreamer-ci'")]
PresetName = Annotated[str, Match(r"[a-z0-9][a-z0-9._-]*:[a-z0-9][a-z0-9._-]*", "a preset such as 'dreamer:ci'")]
Size = Annotated[str, Match(r"[a-z0-9][a-z0-9._-]*", "a lower-case preset key such as 'size12m'")]
Target = Annotated[str, Match(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", "a target 'package.module:callable'")]
ApiVersion = Annotated[str, Match(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})", "a plugin API version MAJOR.MINOR")]
DistName = Annotated[str, Match(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", "the name of a distribution")]
Text = Annotated[str, Match(f"[^{UNSEEN}]*", "one line of text, all of it visible")]
Range = Annotated[Text, Parses(SpecifierSet, "a range such as '>=0.1,<0.2'")]
Slot = Annotated[str, Match(r"[a-z_][a-z0-9_]*", "the name of a slot")]
Suffix = Annotated[str, Match(r"(\.[A-Za-z0-9_+-]+)+", "the ending of a file such as '.acme' or '.acme.gz'")]
_PART = r"\.?[A-Za-z0-9_][A-Za-z0-9._+-]*"
Marker = Annotated[str, Match(f"{_PART}(/{_PART})*", "a file within a folder such as 'meta/info.json'")]
Section = Literal["models", "components", "backends", "importers", "commands", "formats"]
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
class Format:
    """Experience as others store it, ``[[formats]]``: the endings of its files, and files that a folder of it has."""

    id: Id
    description: Text = ""
    suffixes: tuple[Suffix, ...] = ()
    markers: tuple[Marker, ...] = ()


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
    worldflux_version_range: Range
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
    formats: tuple[Format, ...] = ()

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
    manifest, unknown = read(Manifest, raw)
    _check(manifest)
    if strict and unknown:
        raise ManifestError(f"unknown key {unknown[0]!r}")
    return manifest, unknown


def json_schema() -> dict[str, Any]:
    """The format as a JSON schema."""
    from pydantic import TypeAdapter  # only here: importing pydantic costs more than listing every plugin

    return TypeAdapter(Manifest).json_schema()


def _check(manifest: Manifest) -> None:
    """The rules that tie several keys together."""
    expect(manifest.manifest_version == MANIFEST_VERSION, "manifest_version", f"{MANIFEST_VERSION}")
    for line in manifest.requires:
        from packaging.requirements import Requirement  # rarely needed, and slow to import

        try:
            Requirement(line)
        except ValueError:
            raise ManifestError(f"requires: expected a requirement such as 'einops>=0.7', not {line!r}") from None
    lacking = {section for section in get_args(Section) if getattr(manifest, section)} - set(manifest.capabilities)
    expect(not lacking, "capabilities", f"every section the file has; {', '.join(sorted(lacking))} is not named")
    if "formats" in manifest.capabilities:
        api = manifest.plugin_api_version
        expect(tuple(map(int, api.split("."))) >= (1, 1), "plugin_api_version", "'1.1' or more, for formats", api)
    owned = Counter(f"{kind}:{name}" for (kind, name), _ in manifest.owned())
    twice = sorted(name for name, count in owned.items() if count > 1)
    expect(not twice, "", f"each name once; {', '.join(twice)} is repeated")
    names = len(manifest.aliases) + sum(len(model.presets) for model in manifest.models)
    expect(names <= MAX_PRESETS, "models", f"at most {MAX_PRESETS:,} presets and aliases")
    for component in manifest.components:
        own_slot = component.slot in FIVE_SLOTS or component.family is not None
        expect(own_slot, f"components.{component.id}.family", f"the family whose slot {component.slot!r} is")
    families = {name: model for model in manifest.models for name in (model.id, *model.synonyms)}
    for model in manifest.models:
        expect(not set(model.slots) & set(FIVE_SLOTS), f"models.{model.id}.slots", "slots beside the common five")
        for size in model.presets:
            family, _, key = model.preset_name(size).partition(":")
            fits = families.get(family) is model and key == size
            expect(fits, f"models.{model.id}.presets.{size}.name", f"'{model.id}:{size}' or a synonym of it")
    for alias, target in manifest.aliases.items():
        family, _, size = target.partition(":")
        shadowed, _, key = alias.partition(":")
        owner = families.get(shadowed)
        shadows = owner is not None and (key in owner.presets or owner is not families.get(family))
        expect(not shadows, f"aliases.{alias}", "a name that is not already a preset, or another family's")
        exists = family not in families or size in families[family].presets
        expect(exists, f"aliases.{alias}", "a preset that exists", target)
