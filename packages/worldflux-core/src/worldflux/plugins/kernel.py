"""The kernel of one process: which plugins there are, how each stands, and starting the one an id belongs to."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from importlib_metadata import distributions

from worldflux.core.errors import ConfigurationError, PluginError
from worldflux.core.registry import Registry, WorldModelRegistry
from worldflux.plugins.catalog import Catalog, Resolved, first_party_of
from worldflux.plugins.discovery import Plugin, find_plugins
from worldflux.plugins.versions import kernel_version
from worldflux.strangers.code import contained
from worldflux.strangers.distributions import EntryPoint, canonical
from worldflux.strangers.text import say

if TYPE_CHECKING:
    from worldflux.plugins.activation import Host

ALLOW, DENY, STRICT = "WORLDFLUX_PLUGINS", "WORLDFLUX_DISABLED_PLUGINS", "WORLDFLUX_STRICT_PLUGINS"
log = logging.getLogger("worldflux.plugins")


class Kernel:
    """Finds plugins once, on first use, and starts each when one of its ids is asked for."""

    def __init__(
        self,
        distributions: Callable[[], Iterable[Any]] = distributions,
        *,
        registry: Registry = WorldModelRegistry,
        environ: Mapping[str, str] = os.environ,
        version: str | None = None,
    ) -> None:
        self.version = version or kernel_version()
        self.registry = registry
        self._distributions = distributions
        self._environ = environ
        self._lock = threading.RLock()
        self._catalog: Catalog | None = None
        self._host: Host | None = None
        self._starting: list[str] = []

    @property
    def catalog(self) -> Catalog:
        """What the installed plugins provide; imports none of them.

        Raises:
            PluginError: with WORLDFLUX_STRICT_PLUGINS=1, if any plugin is not wholly in order.
        """
        if (catalog := self._catalog) is None:  # once it is there, asking waits for no plugin that is being started
            with self._lock:
                catalog = self._catalog = self._catalog or self._index()
        return catalog

    @property
    def plugins(self) -> list[Plugin]:
        """Every plugin that is installed, with its state and the reason for it."""
        return self.catalog.plugins

    def rediscover(self) -> list[Plugin]:
        """Look again, for notebooks and tests: failed plugins get another try; those removed or changed are stopped."""
        with self._lock:
            importlib.invalidate_caches()
            active = {p.label: p for p in (self.plugins if self._catalog else ()) if p.state == "active"}
            self._catalog = self._index()
            for plugin in self._catalog.plugins:
                if plugin.state == "indexed" and (old := active.get(plugin.label)) and plugin.manifest == old.manifest:
                    plugin.state = active.pop(plugin.label).state
            for gone in active.values():
                self._hooks().stop(gone)
            return self._catalog.plugins

    def resolve(self, model: str) -> Resolved:
        """Understand a preset, alias or family name. Raises ModelNotFoundError or the reason of its plugin."""
        return self.catalog.resolve(model, self.registry.list_models())

    def ensure(self, kind: str, name: str) -> None:
        """Start the plugin that provides a ("model" | "component", id), if one does; the registry's loader.

        Raises:
            PluginError: the plugin is rejected, blocked, or fails to start.
        """
        if (found := self.catalog.find(f"{kind}s", name)) is not None:
            self.activate(found[0])
        elif kind == "model" and (home := first_party_of(name)) is not None:
            raise ConfigurationError(f"model {name!r} is provided by {home}: pip install {home}")

    def activate(self, plugin: Plugin) -> None:
        """Start one plugin; a second call does nothing, and a failure is remembered, not tried again.

        Raises:
            PluginError: it cannot be started; everything it had registered is undone.
        """
        with self._lock:
            plugin = next((now for now in self.plugins if now.label == plugin.label), plugin)  # may be of an older list
            if plugin.state == "active":
                return
            if plugin.state != "indexed":
                raise PluginError(plugin.problem)
            if plugin.label in self._starting:
                raise PluginError(f"plugin {plugin.label} asks for one of its own ids while it is being started")
            self._starting.append(plugin.label)
            try:
                with _blaming():
                    self._hooks().start(plugin)
                plugin.state = "active"
            except PluginError as error:
                plugin.state, plugin.reason = "failed", str(error)
                raise PluginError(plugin.problem) from error.__cause__
            finally:
                self._starting.remove(plugin.label)
                for note in plugin.notes:
                    log.warning("plugin %s: %s", plugin.label, note)

    def target(self, kind: str, name: str) -> Callable[..., Any]:
        """The callable behind an importer or command, its plugin started.

        Raises:
            ConfigurationError: nobody provides that id, or the plugin does not have what its manifest names.
        """
        plugin, item = self.catalog.provider(kind, name)
        self.activate(plugin)
        with _blaming(f"plugin {plugin.label}: {kind}:{name} cannot be loaded: "), contained(plugin.label):
            return EntryPoint(kind, name, item.target).load()  # type: ignore[no-any-return]

    def factory(self, kind: str, name: str) -> Callable[..., Any]:
        """What makes the adapter of a "backend" or a "format", its plugin started.

        Raises:
            ConfigurationError: nobody provides that id, or its plugin cannot be started or has no such adapter.
        """
        plugin, _ = self.catalog.provider(f"{kind}s", name)
        self.activate(plugin)
        if (entry := self.registry.snapshot().get((kind, name))) is None:
            raise PluginError(f"plugin {plugin.label} has no adapter for {kind} {name!r}")
        return entry.factory  # type: ignore[no-any-return]

    def preset_config(self, found: Resolved) -> dict[str, Any] | None:
        """Config values of a preset, from its manifest or from a ``worldflux_resolve_preset`` hook."""
        if found.preset is not None:
            return dict(found.preset.config)
        for plugin, call in self._implementations("resolve_preset"):
            with _blaming(f"plugin {plugin} could not resolve {found.model_id!r}: "):
                if (values := call(family=found.family, preset=found.size)) is not None:
                    return dict(values)
        return None

    def notify(self, event: str, **arguments: Any) -> None:
        """Tell plugins of an event ("model_created", "checkpoint_saved"); one that raises is logged, by name."""
        for plugin in self.plugins:
            if plugin.state == "indexed" and plugin.manifest and event in plugin.manifest.activation_events:
                try:
                    self.activate(plugin)
                except PluginError as error:
                    log.error("%s", error)
        for name, call in self._implementations(event):
            try:
                with _blaming():
                    call(**arguments)
            except PluginError:
                log.exception("plugin %s: its worldflux_%s raised", name, event)

    def _implementations(self, hook: str) -> list[tuple[str, Callable[..., Any]]]:
        return self._host.implementations(f"worldflux_{hook}") if self._host else []

    def _hooks(self) -> Host:
        if self._host is None:
            from worldflux.plugins.activation import Host  # brings pluggy: only to start a plugin

            self._host = Host(self.registry)
        return self._host

    def _index(self) -> Catalog:
        plugins = find_plugins(self._distributions(), self.version)
        for plugin in plugins:
            if reason := self._blocked(plugin):
                plugin.state, plugin.reason = "blocked", reason
        catalog = Catalog(plugins)
        wrong = [plugin.problem for plugin in plugins if plugin.state == "rejected"]
        notes = [f"{plugin.name}: {note}" for plugin in plugins for note in plugin.notes if plugin.state == "indexed"]
        if self._environ.get(STRICT) not in (None, "", "0") and wrong + notes:
            raise PluginError("; ".join(wrong + notes) + f" ({STRICT} is set)")
        for note in (note for note in notes if ": alias " in note):
            warnings.warn(note, stacklevel=2)
        return catalog

    def _blocked(self, plugin: Plugin) -> str:
        name = canonical(plugin.name)
        if name in _names(self._environ.get(DENY, "")):
            return f"by {DENY}"
        if ALLOW in self._environ and name not in _names(self._environ[ALLOW]):
            return f"by {ALLOW}, which does not name it"
        return ""


@contextlib.contextmanager
def _blaming(what: str = "") -> Iterator[None]:
    """Turn whatever a plugin's code raises (sys.exit() included, but not Ctrl-C) into a PluginError that says so."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(what + say(error, kind=type(error) is not PluginError)) from error


def _names(text: str) -> set[str]:
    return {canonical(name.strip()) for name in text.split(",") if name.strip()}


@functools.cache
def get_kernel() -> Kernel:
    """The kernel of this process."""
    return Kernel()
