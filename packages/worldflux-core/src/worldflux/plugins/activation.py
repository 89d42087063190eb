"""Starting a plugin as a transaction: load, register its hooks, stage what they register, commit, or undo it all.

pluggy is the hook layer of plugins that are active. It never finds or loads one: its loader imports every plugin,
isolates none, and settles duplicates in silence.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable, Set
from types import ModuleType, SimpleNamespace
from typing import Any

import pluggy

from worldflux.core.errors import PluginError, did_you_mean
from worldflux.core.registry import ComponentEntry, ComponentSpec, Entries, Registry, model_entry
from worldflux.plugins import hookspecs
from worldflux.plugins.discovery import COMPONENTS, MODELS, Plugin
from worldflux.strangers.code import contained
from worldflux.strangers.text import visible


class Stage:
    """What one plugin registers, kept aside until all of it is known to be right; ``hookspecs`` has the registrars."""

    def __init__(self, plugin: Plugin) -> None:
        self.plugin = plugin
        self.entries: Entries = {}

    def declared(self, kind: str) -> dict[str, Any]:
        """Manifest items of a kind ("model", "component", "backend", "format"), by id."""
        return {item.id: item for item in getattr(self.plugin.manifest, f"{kind}s")}

    def add_model(self, id: str, factory: Callable[..., Any], config_type: type | None = None) -> None:
        """See ``hookspecs.ModelRegistrar``."""
        self._take("model", id, factory, model_entry(factory, config_type, self.plugin.label))

    def add_component(self, id: str, kind: str, factory: Callable[..., Any]) -> None:
        """See ``hookspecs.ComponentRegistrar``."""
        spec = ComponentSpec(id, kind, version=self.plugin.version)
        self._take("component", id, factory, ComponentEntry(factory, spec, self.plugin.label))
        slot = self.declared("component")[id].slot
        if kind != slot:
            raise PluginError(f"it registers components:{id} for slot {kind!r}, its manifest says {slot!r}")

    def add(self, kind: str, id: str, factory: Callable[..., Any]) -> None:
        """See ``hookspecs.BackendRegistrar`` and ``hookspecs.FormatRegistrar``."""
        spec = ComponentSpec(id, kind, version=self.plugin.version)
        self._take(kind, id, factory, ComponentEntry(factory, spec, self.plugin.label))

    def add_entry_point(self, group: str, name: str, obj: Any) -> None:
        """One without hooks is itself the model or component that it names; a plain module is nothing."""
        if group == COMPONENTS and not isinstance(obj, ModuleType):
            self.add_component(name, self.declared("component")[name].slot, obj)
        elif group == MODELS and not isinstance(obj, ModuleType) and name in self.declared("model"):
            self.add_model(name, obj)

    def _take(self, kind: str, id: str, factory: Any, entry: Any) -> None:
        """Raises PluginError unless (kind, id) is declared, new, and can be called."""
        declared = self.declared(kind)
        if id not in declared:
            near = did_you_mean(id, declared)
            raise PluginError(f"it registers {kind}s:{id}, which its manifest does not declare.{near}")
        if (kind, id) in self.entries:
            raise PluginError(f"it registers {kind}s:{id} twice")
        if not callable(factory):
            raise PluginError(f"it registers {kind}s:{id} with {factory!r}, expected a class or function")
        self.entries[kind, id] = entry

    def check_complete(self) -> None:
        """Raises PluginError if the manifest declares what was not registered; a backend may give handles only."""
        for kind in ("model", "component", "format"):
            for missing in sorted(name for name in self.declared(kind) if (kind, name) not in self.entries):
                raise PluginError(f"its manifest declares {kind}s:{missing}, but it does not register it")


class Host:
    """The active plugins: their hooks, and what they registered."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._pm = pluggy.PluginManager("worldflux")
        self._pm.add_hookspecs(hookspecs)
        self._labels: set[str] = set()

    def start(self, plugin: Plugin) -> None:
        """Bring a plugin to work, or raise and leave hooks, registry and ``sys.modules`` as they were."""
        before, modules, threads = self.registry.snapshot(), dict(sys.modules), set(threading.enumerate())
        try:
            with contained(plugin.label):
                stage = self._load(plugin)
            self._commit(stage, self._kept(before))
        except BaseException:
            self.registry.restore(self._kept(before))
            sys.modules.update(modules)
            self.stop(plugin, modules.keys())
            raise
        finally:
            left = [thread.name for thread in set(threading.enumerate()) - threads if not thread.daemon]
            plugin.notes += [f"leaves a thread that keeps the program from ending: {visible(name)}" for name in left]

    def stop(self, plugin: Plugin, keep: Set[str] = frozenset()) -> None:
        """Take a plugin's hooks, registrations and modules away, except the modules to ``keep``."""
        for name, _ in self._pm.list_name_plugin():
            if name.rpartition(":")[0] == plugin.name and self._pm.has_plugin(name):
                self._pm.unregister(name=name)
        self._labels.discard(plugin.label)
        entries = self.registry.snapshot()
        self.registry.restore({key: entry for key, entry in entries.items() if entry.plugin != plugin.label})
        for name in _modules(plugin) - keep:
            sys.modules.pop(name, None)

    def implementations(self, hook: str) -> list[tuple[str, Callable[..., Any]]]:
        """(plugin name, call with keyword arguments) of each implementation of a hook, latest first."""
        impls = reversed(getattr(self._pm.hook, hook).get_hookimpls())
        return [(impl.plugin_name.rpartition(":")[0], functools.partial(_call, impl)) for impl in impls]

    def _load(self, plugin: Plugin) -> Stage:
        stage = Stage(plugin)
        objects: list[Any] = []
        for ep in sorted(plugin.entry_points, key=lambda ep: (ep.group, ep.name)):
            obj = ep.load()
            if not _has_hooks(obj):
                stage.add_entry_point(ep.group, ep.name, obj)
            elif inspect.isclass(obj):
                raise PluginError(f"entry point {ep.name!r} is the class {obj.__name__}; have you forgotten the ()?")
            elif not any(obj is known for known in objects):
                objects.append(obj)
                self._pm.register(obj, name=f"{plugin.name}:{len(objects)}")
        self._pm.check_pending()  # a hook that no hookspec knows is a misspelt one
        for hook, caller in vars(self._pm.hook).items():
            for impl in caller.get_hookimpls() if hook.startswith("worldflux_") else ():
                if not any(impl.plugin is obj for obj in objects):
                    continue
                if impl.hookwrapper or impl.wrapper:
                    raise PluginError(f"{hook} is a wrapper; plugin API 1 has plain hooks only")
                if hook.startswith("worldflux_register_"):
                    kind = hook.removeprefix("worldflux_register_").removesuffix("s")
                    add = getattr(stage, f"add_{kind}", functools.partial(stage.add, kind))
                    _call(impl, registrar=SimpleNamespace(add=add))
        stage.check_complete()
        return stage

    def _commit(self, stage: Stage, kept: Entries) -> None:
        for _, stray in sorted(self.registry.snapshot().keys() - kept.keys()):
            raise PluginError(f"it registers {stray!r} while it is imported; plugins register through their hooks")
        for (kind, name), entry in stage.entries.items():
            self.registry.add(kind, name, entry)
        self._labels.add(stage.plugin.label)

    def _kept(self, before: Entries) -> Entries:
        """``before``, and what plugins registered that were started in the meantime, by the code of this one."""
        now = self.registry.snapshot().items()
        return before | {key: entry for key, entry in now if entry.plugin in self._labels}


def _modules(plugin: Plugin) -> set[str]:
    """What is imported of the plugin's own packages; a namespace shared with others is not its own."""
    own = []
    for parts in [ep.module.split(".") for ep in plugin.entry_points]:
        heads = [".".join(parts[: n + 1]) for n in range(len(parts))]
        own += [head for head in heads if inspect.getattr_static(sys.modules.get(head, sys), "__file__", head)][:1]
    return {name for name in set(sys.modules) if any(f"{name}.".startswith(f"{head}.") for head in own)}


def _has_hooks(obj: Any) -> bool:
    """Whether any function of ``obj`` carries our marker; looks without evaluating properties or lazy attributes."""
    members = (inspect.getattr_static(obj, name, None) for name in dir(obj))
    functions = (getattr(member, "__func__", member) for member in members if not isinstance(member, ModuleType))
    return any(inspect.isfunction(function) and hasattr(function, "worldflux_impl") for function in functions)


def _call(impl: Any, **arguments: Any) -> Any:
    # Not through pluggy, which stops at the first exception and does not say whose it was.
    named = {name: arguments[name] for name in impl.kwargnames if name in arguments}
    return impl.function(*(arguments[name] for name in impl.argnames), **named)
