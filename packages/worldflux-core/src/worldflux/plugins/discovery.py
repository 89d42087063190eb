"""Finding plugins: entry points and manifests of the installed distributions, without importing any of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import importlib_metadata

from worldflux.plugins import versions
from worldflux.plugins.manifest import MANIFEST_VERSION, Manifest, ManifestError, parse
from worldflux.strangers.distributions import (
    EntryPoint,
    canonical,
    entry_points,
    file_beside,
    name_and_version,
    requires_unmet,
)
from worldflux.strangers.tables import MAX_BYTES, load
from worldflux.strangers.text import say, visible

MANIFEST = "worldflux.toml"
MAX_ENTRY_POINTS = 1 << 17  # characters of a distribution's entry_points.txt
MODELS, COMPONENTS = GROUPS = ("worldflux.models", "worldflux.components")
#: Our own families: listed first, in this order; their ids stay theirs even where they are not installed.
FIRST_PARTY: dict[str, tuple[str, ...]] = {
    "worldflux-dreamer": ("dreamer", "dreamerv3", "planet"),
    "worldflux-tdmpc": ("tdmpc2", "tdmpc", "mbpo"),
    "worldflux-jepa": ("jepa", "vjepa2", "v-jepa2", "vjepa2-ac", "external"),
    "worldflux-generative": ("token", "diffusion", "dit", "ssm", "renderer3d", "physics", "gan"),
}
PluginState = Literal["indexed", "active", "failed", "rejected", "blocked"]


@dataclass(eq=False)
class Plugin:
    """One distribution that declares itself to worldflux, and how it stands."""

    name: str
    version: str
    entry_points: tuple[EntryPoint, ...] = ()
    manifest: Manifest | None = None
    state: PluginState = "indexed"
    reason: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"

    @property
    def ids(self) -> set[tuple[str, str]]:
        """Every (kind, id) it would provide, known even of a plugin whose manifest cannot be read."""
        if self.manifest is not None:
            aliases = {("models", alias) for alias in self.manifest.aliases}
            return aliases | {key for key, _ in self.manifest.owned()}
        return {(ep.group.removeprefix("worldflux."), ep.name) for ep in self.entry_points}

    @property
    def problem(self) -> str:
        """The sentence to say when one of its ids is asked for and cannot be had."""
        if self.state != "failed":
            return f"plugin {self.label} is {self.state}: {self.reason}"
        disable = f"disable it with WORLDFLUX_DISABLED_PLUGINS={self.name}"
        return f"plugin {self.label} failed to start: {self.reason} ({disable})"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able description, for ``worldflux plugins list --json``."""
        told = {name: getattr(self, name) for name in ("name", "version", "state", "reason")}
        about = {name: getattr(self.manifest, name, None) for name in ("plugin_api_version", "worldflux_version_range")}
        provides: dict[str, list[str]] = {}
        for kind, name in sorted(self.ids):
            provides.setdefault(kind, []).append(name)
        experimental = self.manifest is not None and self.manifest.experimental
        return {**told, "notes": list(self.notes), **about, "experimental": experimental, "provides": provides}


def find_plugins(distributions: Iterable[importlib_metadata.Distribution], kernel: str) -> list[Plugin]:
    """Every plugin among ``distributions``, judged and in the one order all machines agree on."""
    found: dict[str, Plugin] = {}
    for dist in distributions:
        try:
            text = dist.read_text("entry_points.txt") or ""
        except Exception:  # a neighbour nobody can read says nothing about worldflux
            continue
        if "worldflux." in text and (plugin := _candidate(dist, text)) is not None:
            first = found.setdefault(canonical(plugin.name), plugin)  # first on sys.path: it is imported
            if (first.label, first.entry_points) != (plugin.label, plugin.entry_points):
                first.notes.append(f"hides {plugin.label}, which is installed, too, further down sys.path")
    for plugin in found.values():
        if plugin.state == "indexed":
            _judge(plugin, kernel)
    rank = {name: n for n, name in enumerate(FIRST_PARTY)}
    return [found[name] for name in sorted(found, key=lambda name: (rank.get(name, len(rank)), name))]


def _candidate(dist: importlib_metadata.Distribution, text: str) -> Plugin | None:
    """The distribution as a plugin, if it has lines of our groups; rejected if it cannot be read. Never raises."""
    folder = Path(str(getattr(dist, "_path", ""))).name  # such as acme_world-1.0.dist-info
    named = re.match(r"(.+?)(-\d[^-]*(-py[^-]*)?)?\.(dist|egg)-info$", folder)  # EGG-INFO names nothing
    plugin = Plugin(visible(named[1] if named else folder) or "unknown", "unknown")
    try:
        if len(text) > MAX_ENTRY_POINTS:
            raise ValueError(f"its entry_points.txt has more than {MAX_ENTRY_POINTS:,} characters")
        plugin.entry_points = entry_points(text, GROUPS)
        name, plugin.version = name_and_version(dist)
        if named and canonical(name) != canonical(plugin.name):
            raise ValueError(f"it calls itself {name!r}")
        plugin.name = name
    except Exception as error:
        plugin.state, plugin.reason = "rejected", f"its metadata cannot be read: {say(error, kind=False)}"
    return plugin if plugin.entry_points or plugin.reason else None


def _judge(plugin: Plugin, kernel: str) -> None:
    """Read the manifest and give the verdict; whatever goes wrong here costs this plugin only."""
    reason = None
    try:
        raw = _raw_manifest(plugin)
        reason = _version_mismatch(raw, kernel)  # first: a manifest of a later API may well look broken to us
        plugin.manifest, unknown = parse(raw)  # even so: who asks for one of its aliases is told the reason
        plugin.notes += [visible(f"unknown key {key[:100]!r} in {MANIFEST}") for key in unknown[:20]]
        _check_entry_points(plugin, plugin.manifest)
        reason = reason or requires_unmet(plugin.manifest.requires)
    except Exception as error:
        broken = f"broken {MANIFEST}: {say(error, kind=False)}"
        reason = reason or (broken if isinstance(error, ManifestError) else say(error))
    if reason is not None:
        plugin.state, plugin.reason = "rejected", reason


def _raw_manifest(plugin: Plugin) -> dict[str, Any]:
    for ep in plugin.entry_points:
        if not ep.well_formed:
            raise ManifestError(f"entry point {ep.name!r}: expected 'module' or 'module:object', not {ep.value!r}")
    texts = {read_manifest(module) for module in sorted({ep.module for ep in plugin.entry_points})}
    if len(texts) > 1:
        raise ManifestError("its entry points lead to different manifests; a distribution has one")
    raw = load(texts.pop())
    name = raw.get("name")
    if not isinstance(name, str) or canonical(name) != canonical(plugin.name):
        where = plugin.entry_points[0].module.partition(".")[0]
        raise ManifestError(f"the one beside {where!r} has name {name!r}, expected {plugin.name!r}")
    return raw


def _version_mismatch(raw: dict[str, Any], kernel: str) -> str | None:
    """Judge the three version keys, as far as they are well formed; ``parse`` names those that are not."""
    if type(raw.get("manifest_version")) is int and raw["manifest_version"] > MANIFEST_VERSION:
        newer, known = raw["manifest_version"], MANIFEST_VERSION
        return f"its manifest has format {newer}, this kernel reads {known}; update {versions.KERNEL}"
    keys = ("manifest_version", "name", "plugin_api_version", "worldflux_version_range")
    manifest, _ = parse({key: raw[key] for key in keys if key in raw})
    api = versions.api_mismatch(manifest.plugin_api_version, kernel)
    return api or versions.range_mismatch(manifest.worldflux_version_range, kernel)


def _check_entry_points(plugin: Plugin, manifest: Manifest) -> None:
    """Entry points and manifest say the same twice, so a drift between them is caught before anything runs."""
    points = {(ep.group, ep.name) for ep in plugin.entry_points}
    need = {(MODELS, model.id) for model in manifest.models} | {(COMPONENTS, part.id) for part in manifest.components}
    beside = ("backends", "importers", "formats")
    more = {*manifest.aliases, *(name for (kind, name), _ in manifest.owned() if kind in beside)}
    for group, name in sorted(need - points, reverse=True):  # models before components
        what = "model" if group == MODELS else "component"
        raise ManifestError(f"{what} {name!r} has no entry point of that name in [{group}]")
    for _, name in sorted(points - need - {(MODELS, name) for name in more}):
        raise ManifestError(f"entry point {name!r} is not declared: expected an id or alias of the manifest")
    roots = {ep.module.partition(".")[0] for ep in plugin.entry_points}
    name = canonical(plugin.name)
    if name in FIRST_PARTY and roots != {name.replace("-", "_")}:
        raise ManifestError(f"{name!r} is a package of ours, but its entry points lead to {sorted(roots)}")
    for target in [*(i.target for i in manifest.importers), *(c.target for c in manifest.commands)]:
        if re.split("[.:]", target)[0] not in roots:
            raise ManifestError(f"target {target!r} is outside the plugin's own package {sorted(roots)}")


def read_manifest(module: str) -> bytes:
    """The manifest of the nearest package that encloses ``module``."""
    if (found := file_beside(module, MANIFEST, MAX_BYTES + 1)) is None:
        raise ManifestError(f"there is none beside {module!r}; is it package data of the wheel?")
    return found
