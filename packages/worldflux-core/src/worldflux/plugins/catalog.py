"""What can be asked for by name: families, presets, aliases, components, backends, importers, commands.

Built from manifests alone. First-party plugins come first, then the others by name; the first to claim an id has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from worldflux.core.errors import ConfigurationError, ModelNotFoundError, PluginError, did_you_mean
from worldflux.plugins.discovery import FIRST_PARTY, Plugin
from worldflux.plugins.manifest import Backend, Command, Component, Importer, Model, Preset
from worldflux.plugins.versions import canonical

_FIRST_PARTY_OF = {name: dist for dist, names in FIRST_PARTY.items() for name in names}
_ALIAS_WORDS = ("ci", "small", "medium", "large", "legacy", "proof")
Declared = Model | Component | Backend | Importer | Command


@dataclass(frozen=True)
class Resolved:
    """A model string, understood. ``preset`` is None where a script or a hook, not a manifest, knows the size."""

    model_id: str
    family: str
    size: str
    preset: Preset | None = None
    plugin: Plugin | None = None
    alias: str | None = None

    def entry(self) -> dict[str, Any]:
        """The catalogue entry, as ``get_model_info`` gives it."""
        entry: dict[str, Any] = {"name": self.model_id, "type": self.family, "plugin": None}
        if self.preset is None or self.plugin is None:
            unknown = {"description": "registered by a script", "params": "unknown", "default_obs": "unknown"}
            return entry | unknown | {"maturity": "experimental", "support_tier": "experimental", "parity_role": None}
        preset = self.preset
        entry |= {"plugin": self.plugin.name, "description": preset.description, "params": preset.params}
        entry |= {"default_obs": preset.default_obs, "maturity": preset.maturity}
        entry |= {"support_tier": preset.support_tier, "parity_role": preset.parity_role}
        return entry | ({"canonical_display_name": preset.display_name} if preset.display_name else {})


class Catalog:
    """Answers by name. Building it rejects the plugins that claim what another has, and notes ignored aliases."""

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self.plugins = list(plugins)
        self._owner: dict[tuple[str, str], tuple[Plugin, Declared]] = {}
        self._presets: dict[str, Resolved] = {}
        self._aliases: dict[str, str] = {}
        usable = [plugin for plugin in self.plugins if plugin.state in ("indexed", "active")]
        ours = [plugin for plugin in usable if canonical(plugin.name) in FIRST_PARTY]
        for group in (ours, [plugin for plugin in usable if plugin not in ours]):
            for plugin in [plugin for plugin in group if self._claim(plugin)]:
                self._take_aliases(plugin)  # once all ids are known: an alias cannot shadow a later plugin's model

    def _claim(self, plugin: Plugin) -> bool:
        assert plugin.manifest is not None  # an unread manifest means rejected
        for kind, name in plugin.manifest.owned():
            home = first_party_of(name) if kind == "models" else None
            if kind == "models" and name in self._aliases:
                plugin.reason = f"models:{name} is an alias of {self._aliases[name]!r}; give the model another id"
            elif (kind, name) in self._owner:
                other = self._owner[kind, name][0].name
                plugin.reason = f"{kind}:{name} is already provided by {other!r}; disable one of the two"
            elif home is not None and home != canonical(plugin.name):
                plugin.reason = f"{kind}:{name} belongs to {home!r}; give the model another id"
            if plugin.reason:
                plugin.state = "rejected"
                return False
        manifest = plugin.manifest
        for model in manifest.models:
            self._owner |= {("models", name): (plugin, model) for name in (model.id, *model.synonyms)}
            for size, preset in model.presets.items():
                name = model.preset_name(size)
                self._presets[f"{model.id}:{size}"] = Resolved(name, model.id, size, preset, plugin)
        for kind in ("components", "backends", "importers"):
            self._owner |= {(kind, item.id): (plugin, item) for item in getattr(manifest, kind)}
        self._owner |= {("commands", command.name): (plugin, command) for command in manifest.commands}
        return True

    def _take_aliases(self, plugin: Plugin) -> None:
        assert plugin.manifest is not None
        for alias, target in plugin.manifest.aliases.items():
            key = self._canonical(alias)
            family = alias.partition(":")[0]
            owner = self._owner.get(("models", family))
            taken = self._aliases.get(key) or (family if owner and owner[0] is not plugin else None)
            home = first_party_of(alias)
            if taken is not None:
                plugin.notes.append(f"alias {alias!r} ignored, it means {taken!r}")
            elif home not in (None, canonical(plugin.name)):
                plugin.notes.append(f"alias {alias!r} ignored, it belongs to {home!r}")
            else:
                self._aliases[key] = target

    def _canonical(self, name: str) -> str:
        """Lower case, and a family by its id instead of a synonym."""
        family, colon, size = name.lower().partition(":")
        owner = self._owner.get(("models", family))
        return f"{owner[1].id}:{size}" if colon and owner and isinstance(owner[1], Model) else name.lower()

    @property
    def families(self) -> list[str]:
        """Ids of the families that can be used, in catalogue order."""
        return list(dict.fromkeys(item.id for _, item in self._owner.values() if isinstance(item, Model)))

    @property
    def presets(self) -> list[Resolved]:
        """Every listed preset, in catalogue order."""
        return list(self._presets.values())

    @property
    def aliases(self) -> Mapping[str, str]:
        """Alias -> preset."""
        return dict(self._aliases)

    def items(self, kind: str) -> dict[str, tuple[Plugin, Any]]:
        """Everything of a kind ("components", "backends", "importers", "commands") with the plugin that has it."""
        return {name: found for (of, name), found in self._owner.items() if of == kind}

    def find(self, kind: str, name: str) -> tuple[Plugin, Any] | None:
        """The plugin that provides (kind, name) and what its manifest says of it; None if nobody does.

        Raises:
            PluginError: the plugin that would provide it is rejected or blocked.
        """
        if (kind, name) not in self._owner:
            self.blame(kind, name)
        return self._owner.get((kind, name))

    def provider(self, kind: str, name: str, *others: str) -> tuple[Plugin, Any]:
        """Like ``find``, but an id that nobody provides is a ConfigurationError; ``others`` exist beside."""
        if (found := self.find(kind, name)) is None:
            known = [*others, *self.items(kind)]
            near = did_you_mean(name, known)
            raise ConfigurationError(f"Unknown {kind.removesuffix('s')} {name!r}. Available: {known}.{near}")
        return found

    def blame(self, kind: str, *names: str) -> None:
        """Raise the reason of a plugin that would have provided one of ``names`` if it could."""
        for plugin in self.plugins:  # the names of ours are known even where the manifest cannot be read
            ours = {("models", name) for name in names if first_party_of(name) == canonical(plugin.name)}
            hit = next((name for name in names if (kind, name) in plugin.ids | ours), None)
            if hit is not None and plugin.state == "blocked":
                raise PluginError(f"{hit!r} comes with plugin {plugin.name}, which is blocked: {plugin.reason}")
            if hit is not None and plugin.state == "rejected":
                raise PluginError(f"{hit!r} cannot be had: {plugin.problem}")

    def resolve(self, model: str, registered: Iterable[str] = ()) -> Resolved:
        """Understand a preset, alias or family name; ``registered`` are families that scripts registered.

        Raises:
            ModelNotFoundError: nothing has that name; says the nearest one, or which package has it.
            PluginError: the plugin that has it is rejected or blocked.
        """
        asked = model.strip()
        key = self._canonical(asked)
        alias = asked if key in self._aliases else None
        family, colon, size = self._canonical(self._aliases.get(key, key)).partition(":")
        size = size if colon else self._default_size(family)
        if (found := self._presets.get(f"{family}:{size}")) is not None:
            return Resolved(found.model_id, family, found.size, found.preset, found.plugin, alias)
        owner = self._owner.get(("models", family))
        if owner is None and family in registered:
            return Resolved(f"{family}:{size or 'base'}", family, size or "base", alias=alias)
        if owner is not None and size:
            return Resolved(f"{family}:{size}", family, size, plugin=owner[0], alias=alias)
        self.blame("models", family, asked.lower())
        shown = f"{asked} (= {self._aliases[key]})" if alias else asked
        raise ModelNotFoundError(self._not_found(shown, family, size, registered))

    def sizes(self, family: str) -> list[str]:
        """The sizes a family lists."""
        return [found.size for found in self._presets.values() if found.family == family]

    def _default_size(self, family: str) -> str:
        """What a bare family name means where no alias says it: its only size, or "base"."""
        sizes = self.sizes(family)
        return sizes[0] if len(sizes) == 1 else "base" if "base" in sizes else ""

    def unknown_size(self, family: str, size: str) -> ModelNotFoundError:
        """The error for a size that neither the manifest nor a hook of the family knows."""
        sizes = self.sizes(family)
        near = did_you_mean(size, sizes)
        return ModelNotFoundError(f"Unknown size: {size}. Available: {sizes}.{near} (model type {family!r})")

    def _not_found(self, asked: str, family: str, size: str, registered: Iterable[str]) -> str:
        home = first_party_of(family)
        if home is not None and all(canonical(plugin.name) != home for plugin in self.plugins):
            return f"model {asked!r} is provided by {home}: pip install {home}"
        names = [*(found.model_id for found in self.presets), *self._aliases, *registered]
        near = did_you_mean(asked.lower(), [*names, *self._presets])
        listing = "`worldflux models list` shows them, `worldflux plugins list` what is installed"
        if size:
            families = list(dict.fromkeys((*self.families, *registered)))  # an active plugin's are in both
            near = near or did_you_mean(family, families)
            return f"Unknown model type: {family}. Available: {families}.{near} ({listing})"
        return f"Unknown model {asked!r}. Available models: {names}.{near} ({listing})"


def first_party_of(name: str) -> str | None:
    """The package of ours that a family, preset or alias name belongs to, installed or not."""
    family = name.lower().partition(":")[0]
    word, _, rest = family.rpartition("-")
    return _FIRST_PARTY_OF.get(family) or (_FIRST_PARTY_OF.get(word) if rest in _ALIAS_WORDS else None)
