"""What can be asked for by name: families, presets, aliases, components, backends, importers, commands, formats.

Built from manifests alone. First-party plugins come first, then the others by name; the first to claim an id has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from worldflux.core.errors import ConfigurationError, ModelNotFoundError, PluginError, did_you_mean
from worldflux.plugins.discovery import FIRST_PARTY, Plugin
from worldflux.plugins.manifest import Preset
from worldflux.plugins.versions import KERNEL
from worldflux.strangers.distributions import canonical
from worldflux.strangers.names import looks, one_slip
from worldflux.strangers.text import some

_FIRST_PARTY_OF = {name: dist for dist, names in FIRST_PARTY.items() for name in names}
_OURS = (*_FIRST_PARTY_OF, *FIRST_PARTY, KERNEL)
_ALIAS_WORDS = ("ci", "small", "medium", "large", "legacy", "proof")
_OF_A_SCRIPT = Preset("registered by a script", "unknown", "unknown", "experimental")
_SHOWN = ("description", "params", "default_obs", "maturity", "support_tier", "parity_role")


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
        preset, plugin = self.preset or _OF_A_SCRIPT, self.plugin and self.plugin.name
        entry = {"name": self.model_id, "type": self.family, "plugin": plugin} | {n: getattr(preset, n) for n in _SHOWN}
        return entry | ({"canonical_display_name": preset.display_name} if preset.display_name else {})


class Catalog:
    """Answers by name. Building it rejects the plugins that claim what another has, and notes ignored aliases."""

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self.plugins = list(plugins)
        self._owner: dict[tuple[str, str], tuple[Plugin, Any]] = {}  # (kind, id) -> who has it, and its manifest table
        self._presets: dict[str, Resolved] = {}
        self.aliases: dict[str, str] = {}  # alias -> preset
        self._seen = {looks(name): name for name in _OURS}  # and of other plugins: the first that looks so
        usable = [plugin for plugin in self.plugins if plugin.state in ("indexed", "active")]
        for first in (True, False):
            group = [plugin for plugin in usable if (canonical(plugin.name) in FIRST_PARTY) is first]
            for plugin in [plugin for plugin in group if self._claim(plugin)]:
                self._doubt(plugin)
                self._take_aliases(plugin)  # once all ids are known: an alias cannot shadow a later plugin's model

    def _claim(self, plugin: Plugin) -> bool:
        assert plugin.manifest is not None  # an unread manifest means rejected
        owned = dict(plugin.manifest.owned())
        for kind, name in owned:
            home = first_party_of(name) if kind == "models" else None
            if kind == "models" and name in self.aliases:
                plugin.reason = f"models:{name} is an alias of {self.aliases[name]!r}; give the model another id"
            elif (kind, name) in self._owner:
                other = self._owner[kind, name][0].name
                plugin.reason = f"{kind}:{name} is already provided by {other!r}; disable one of the two"
            elif home is not None and home != canonical(plugin.name):
                plugin.reason = f"{kind}:{name} belongs to {home!r}; give the model another id"
            if plugin.reason:
                plugin.state = "rejected"
                return False
        self._owner |= {key: (plugin, item) for key, item in owned.items()}
        for model in plugin.manifest.models:
            for size, preset in model.presets.items():
                self._presets[f"{model.id}:{size}"] = Resolved(model.preset_name(size), model.id, size, preset, plugin)
        return True

    def _doubt(self, plugin: Plugin) -> None:
        """Note which names of a plugin could be taken for one of ours, or for another plugin's."""
        ids = sorted({name.partition(":")[0] for kind, name in plugin.ids if kind == "models"})
        names = (plugin.name, *ids) if canonical(plugin.name) not in FIRST_PARTY else ()
        for name in (name for name in names if first_party_of(name) is None):
            word = _without_size(name).lower()
            near = self._seen.get(looks(word)) or next((our for our in _OURS if one_slip(word, our)), name)
            plugin.notes += [f"its name {name!r} is easily taken for {near!r}, which is another's"] * (near != name)
        self._seen = {looks(name): name for name in ids} | self._seen

    def _take_aliases(self, plugin: Plugin) -> None:
        assert plugin.manifest is not None
        for alias, target in plugin.manifest.aliases.items():
            key, family = self._canonical(alias), alias.partition(":")[0]
            owner, _ = self._owner.get(("models", family), (plugin, None))
            taken = self.aliases.get(key) or (family if owner is not plugin else None)
            home = first_party_of(alias)
            if taken is not None:
                plugin.notes.append(f"alias {alias!r} ignored, it means {taken!r}")
            elif home not in (None, canonical(plugin.name)):
                plugin.notes.append(f"alias {alias!r} ignored, it belongs to {home!r}")
            else:
                self.aliases[key] = target

    def _canonical(self, name: str) -> str:
        """Lower case, and a family by its id instead of a synonym."""
        family, colon, size = name.lower().partition(":")
        _, model = self._owner.get(("models", family), (None, None))
        return f"{model.id}:{size}" if colon and model else name.lower()

    @property
    def families(self) -> list[str]:
        """Ids of the families that can be used, in catalogue order."""
        return list(dict.fromkeys(model.id for _, model in self.items("models").values()))

    @property
    def presets(self) -> list[Resolved]:
        """Every listed preset, in catalogue order."""
        return list(self._presets.values())

    def items(self, kind: str) -> dict[str, tuple[Plugin, Any]]:
        """Everything of a kind (a section of the manifest, such as "models"), with who has it."""
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
            raise ConfigurationError(f"Unknown {kind.removesuffix('s')} {name!r}. Available: {some(known)}.{near}")
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
        alias = asked if key in self.aliases else None
        family, colon, size = self._canonical(self.aliases.get(key, key)).partition(":")
        size = size if colon else self._default_size(family)
        if (found := self._presets.get(f"{family}:{size}")) is not None:
            return replace(found, alias=alias)
        owner, _ = self._owner.get(("models", family), (None, None))
        if owner is None and family in registered:
            return Resolved(f"{family}:{size or 'base'}", family, size or "base", alias=alias)
        if owner is not None and size:
            return Resolved(f"{family}:{size}", family, size, plugin=owner, alias=alias)
        self.blame("models", family, asked.lower())
        shown = f"{asked} (= {self.aliases[key]})" if alias else asked
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
        return ModelNotFoundError(f"Unknown size: {size}. Available: {some(sizes)}.{near} (model type {family!r})")

    def _not_found(self, asked: str, family: str, size: str, registered: Iterable[str]) -> str:
        home = first_party_of(family)
        if home and home not in {canonical(plugin.name) for plugin in self.plugins}:
            return f"model {asked!r} is provided by {home}: pip install {home}"
        names = [*(found.model_id for found in self.presets), *self.aliases, *registered]
        near = did_you_mean(asked.lower(), [*names, *self._presets])
        listing = "`worldflux models list` shows them, `worldflux plugins list` what is installed"
        if size:
            families = list(dict.fromkeys((*self.families, *registered)))  # an active plugin's are in both
            near = near or did_you_mean(family, families)
            return f"Unknown model type: {family}. Available: {some(families)}.{near} ({listing})"
        return f"Unknown model {asked!r}. Available models: {some(names)}.{near} ({listing})"


def first_party_of(name: str) -> str | None:
    """The package of ours that a family, preset or alias name belongs to, installed or not."""
    family = name.lower().partition(":")[0]
    return _FIRST_PARTY_OF.get(family) or _FIRST_PARTY_OF.get(_without_size(family))


def _without_size(name: str) -> str:
    """The family's part of an alias such as "dreamer-ci"."""
    family, _, size = name.rpartition("-")
    return family if size in _ALIAS_WORDS else name
