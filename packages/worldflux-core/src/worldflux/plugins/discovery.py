"""Finding plugins: entry points and manifests of the installed distributions, without importing any of them."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, Literal

import importlib_metadata

from worldflux.plugins import versions
from worldflux.plugins.manifest import MANIFEST_VERSION, Manifest, ManifestError, parse

MANIFEST = "worldflux.toml"
MODELS, COMPONENTS = GROUPS = ("worldflux.models", "worldflux.components")
#: Our own families: listed first, in this order; their ids stay theirs even where they are not installed.
FIRST_PARTY: dict[str, tuple[str, ...]] = {
    "worldflux-dreamer": ("dreamer", "dreamerv3", "planet"),
    "worldflux-tdmpc": ("tdmpc2", "tdmpc", "mbpo"),
    "worldflux-jepa": ("jepa", "vjepa2", "v-jepa2"),
    "worldflux-generative": ("token", "diffusion", "dit", "ssm", "renderer3d", "physics", "gan"),
}
PluginState = Literal["indexed", "active", "failed", "rejected", "blocked"]


@dataclass(frozen=True)
class EntryPoint:
    """A line of one of our groups; what is none is kept, where some releases of importlib_metadata would raise."""

    group: str
    name: str
    value: str

    @property
    def module(self) -> str:
        """The module it leads to."""
        return re.split(r"[\s:\[]", self.value)[0]

    def load(self) -> Any:
        """Import what it leads to."""
        return importlib_metadata.EntryPoint(self.name, self.value, self.group).load()


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
        kinds = sorted({kind for kind, _ in self.ids})
        about = {name: getattr(self.manifest, name, None) for name in ("plugin_api_version", "worldflux_version_range")}
        return {
            **{name: getattr(self, name) for name in ("name", "version", "state", "reason")},
            "notes": list(self.notes),
            **about,
            "experimental": bool(self.manifest and self.manifest.experimental),
            "provides": {kind: sorted(name for of, name in self.ids if of == kind) for kind in kinds},
        }


def find_plugins(distributions: Iterable[importlib_metadata.Distribution], kernel: str) -> list[Plugin]:
    """Every plugin among ``distributions``, judged and in the one order all machines agree on."""
    found: dict[str, Plugin] = {}
    for dist in distributions:
        try:
            points = _entry_points(dist.read_text("entry_points.txt") or "")
        except Exception:  # a neighbour nobody can read says nothing about worldflux
            continue
        if points:
            plugin = _candidate(dist, points)
            found.setdefault(versions.canonical(plugin.name), plugin)  # first on sys.path is the one imported
    for plugin in found.values():
        if plugin.state == "indexed":
            _judge(plugin, kernel)
    rank = {name: n for n, name in enumerate(FIRST_PARTY)}
    return [found[name] for name in sorted(found, key=lambda name: (rank.get(name, len(rank)), name))]


def _entry_points(text: str) -> tuple[EntryPoint, ...]:
    """The lines of our groups."""
    found, group = [], ""
    for line in map(str.strip, text.splitlines() if "worldflux." in text else ()):
        name, equals, value = map(str.strip, line.partition("="))
        if line.startswith("["):
            group = line.strip("[]")
        elif equals and group in GROUPS and not line.startswith("#"):
            found.append(EntryPoint(group, name, value))
    return tuple(found)


def _candidate(dist: importlib_metadata.Distribution, points: tuple[EntryPoint, ...]) -> Plugin:
    """The distribution as a plugin, rejected if its name and version cannot be read. Never raises."""
    try:
        return Plugin(str(dist.metadata["Name"]), str(dist.metadata["Version"]), points)
    except Exception as error:
        reason = f"its metadata cannot be read: {say(error)}"
        return Plugin(Path(str(getattr(dist, "_path", "unknown"))).stem, "unknown", points, None, "rejected", reason)


def _judge(plugin: Plugin, kernel: str) -> None:
    """Read the manifest and give the verdict; whatever goes wrong here costs this plugin only."""
    reason = None
    try:
        raw = _raw_manifest(plugin)
        reason = _version_mismatch(raw, kernel)  # first: a manifest of a later API may well look broken to us
        plugin.manifest, unknown = parse(raw)  # even so: who asks for one of its aliases is told the reason
        plugin.notes += [f"unknown key {key!r} in {MANIFEST}" for key in unknown]
        _check_entry_points(plugin, plugin.manifest)
        reason = reason or versions.requires_unmet(plugin.manifest.requires, versions.installed_version)
    except ManifestError as error:
        reason = reason or f"broken {MANIFEST}: {error}"
    except Exception as error:
        reason = reason or say(error)
    if reason is not None:  # on one line, and with nothing a terminal obeys: it may quote the file
        plugin.state, plugin.reason = "rejected", "".join(c if c.isprintable() else " " for c in reason)[:500]


def _raw_manifest(plugin: Plugin) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    for ep in plugin.entry_points:
        if importlib_metadata.EntryPoint.pattern.match(ep.value) is None:
            raise ManifestError(f"entry point {ep.name!r}: expected 'module' or 'module:object', not {ep.value!r}")
    texts = {read_manifest(module) for module in sorted({ep.module for ep in plugin.entry_points})}
    if len(texts) > 1:
        raise ManifestError("its entry points lead to different manifests; a distribution has one")
    try:
        raw = tomllib.loads(texts.pop().decode())
    except (ValueError, RecursionError) as error:  # bad TOML, bad UTF-8, nested without end
        raise ManifestError(str(error)) from None
    name = raw.get("name")
    if not isinstance(name, str) or versions.canonical(name) != versions.canonical(plugin.name):
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
    more = {*manifest.aliases, *(b.id for b in manifest.backends), *(i.id for i in manifest.importers)}
    for group, name in sorted(need - points, reverse=True):  # models before components
        what = "model" if group == MODELS else "component"
        raise ManifestError(f"{what} {name!r} has no entry point of that name in [{group}]")
    for _, name in sorted(points - need - {(MODELS, name) for name in more}):
        raise ManifestError(f"entry point {name!r} is not declared: expected an id or alias of the manifest")
    roots = {ep.module.partition(".")[0] for ep in plugin.entry_points}
    for target in [*(i.target for i in manifest.importers), *(c.target for c in manifest.commands)]:
        if re.split("[.:]", target)[0] not in roots:
            raise ManifestError(f"target {target!r} is outside the plugin's own package {sorted(roots)}")


def find_spec_static(name: str) -> ModuleSpec | None:
    """Like ``importlib.util.find_spec``, but never imports a parent package."""
    path: Any = None
    head = ""
    for part in name.split("."):
        head = f"{head}.{part}" if head else part
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if find and (spec := find(head, path, None)) is not None:
                break
        else:
            return None
        path = spec.submodule_search_locations
        if path is None and head != name:
            return None
        if spec.loader is None and head != name:
            importlib.import_module(head)  # a namespace package: no code to run, and nested ones need it
    return spec  # type: ignore[no-any-return]


def read_manifest(module: str) -> bytes:
    """The manifest of the nearest package that encloses ``module``; works in folders, zips and editable installs."""
    parts = module.split(".")
    for n in range(len(parts), 0, -1):
        spec = find_spec_static(".".join(parts[:n]))
        if spec is None or spec.submodule_search_locations is None:
            continue
        read: Callable[[str], bytes] = getattr(spec.loader, "get_data", None) or (lambda path: Path(path).read_bytes())
        for location in spec.submodule_search_locations:
            try:
                return read(os.path.join(location, MANIFEST))
            except OSError:
                continue
    raise ManifestError(f"there is none beside {module!r}; is it package data of the wheel?")


def say(error: BaseException) -> str:
    """The error as a traceback ends with it."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
