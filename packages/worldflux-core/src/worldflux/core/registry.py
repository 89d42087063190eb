"""Which family stands behind a name. No torch here, and no plugins: they fill it through the loader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .errors import ConfigurationError, ModelNotFoundError, did_you_mean

NATIVE_BACKEND = "native_torch"  # the one that no plugin brings: the model runs in this process
ModelT = TypeVar("ModelT", bound=type)


@dataclass(frozen=True)
class ModelEntry:
    """A family's classes and the plugin ("name version") that brought them, if one did.

    ``config_class`` is None where neither the family nor who registered it says one (``config.config_class_of``).
    """

    model_class: Any
    config_class: Any
    plugin: str | None = None


@dataclass(frozen=True)
class ComponentSpec:
    """What a registered component is: its name, its slot, its version and default options."""

    name: str
    component_type: str
    version: str = "v0"
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ComponentEntry:
    """A component's class or factory and its description; or what makes the adapter of a backend or a format."""

    factory: Any
    spec: ComponentSpec
    plugin: str | None = None


Entries = dict[tuple[str, str], Any]  # ("model" | "component" | "backend" | "format", id) -> its entry


def model_entry(model_class: Any, config_class: Any = None, plugin: str | None = None) -> ModelEntry:
    """The entry of a family, whose config class is that of the model where no other is given."""
    return ModelEntry(model_class, config_class or getattr(model_class, "config_class", None), plugin)


class Registry:
    """Families and components by id. ``WorldModelRegistry`` is the process's own."""

    def __init__(self) -> None:
        self._entries: Entries = {}
        self._loader: Callable[[str, str], Any] | None = None

    def set_loader(self, loader: Callable[[str, str], Any]) -> None:
        """Install what is called with ``("model" | "component", id)`` when an id is not yet registered.

        Called with ``("backend", id)`` or ``("format", id)``, it returns the factory that a plugin registered for it;
        with ``("importer", id)`` the callable that the plugin's manifest names; with ``("declared", "formats")`` what
        manifests declare of that section, ``{id: (plugin, table)}``, importing no plugin; with
        ``("integration", name)`` the module ``worldflux.<name>``, which the kernel needs and does not hold.
        """
        self._loader = loader

    def add(self, kind: str, name: str, entry: Any) -> None:
        """Keep an entry. Raises ConfigurationError if the id is taken."""
        if (taken := self._entries.get((kind, name))) is not None:
            raise ConfigurationError(f"{kind} {name!r} is already registered by {taken.plugin or 'this program'}")
        self._entries[kind, name] = entry

    def register(
        self,
        model_type: str,
        config_class: type | None = None,
        *,
        plugin: str | None = None,
    ) -> Callable[[ModelT], ModelT]:
        """Return a decorator that registers a model class. Raises ConfigurationError if the name is taken."""
        name = model_type.lower()
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise ConfigurationError(f"model type {model_type!r} must be letters, digits, '-', '_' and '.'")

        def decorate(model_class: ModelT) -> ModelT:
            self.add("model", name, model_entry(model_class, config_class, plugin))
            return model_class

        return decorate

    def unregister(self, model_type: str) -> None:
        """Forget a family, if it is there."""
        self._entries.pop(("model", model_type.lower()), None)

    def registered(self, model_type: str) -> bool:
        """Whether the family is registered now, without loading anything."""
        return ("model", model_type.lower()) in self._entries

    def model(self, model_type: str) -> ModelEntry:
        """Return a family, activating its plugin if need be. Raises ModelNotFoundError or the plugin's reason."""
        name = model_type.lower()
        if (entry := self._find("model", name)) is None:
            known = list(self.list_models())
            raise ModelNotFoundError(f"Unknown model type: {name}. Available: {known}.{did_you_mean(name, known)}")
        return entry  # type: ignore[no-any-return]

    def list_models(self) -> dict[str, Any]:
        """Registered model classes by type."""
        return {name: entry.model_class for (kind, name), entry in sorted(self._entries.items()) if kind == "model"}

    def register_component(
        self, component_id: str, factory: Any, spec: ComponentSpec, *, plugin: str | None = None
    ) -> None:
        """Register a component's class or factory. Raises ConfigurationError if the id is taken."""
        self.add("component", component_id, ComponentEntry(factory, spec, plugin))

    def component(self, component_id: str) -> ComponentEntry:
        """Return a component, activating its plugin if need be. Raises ConfigurationError if unknown."""
        if (entry := self._find("component", component_id)) is None:
            known = list(self.list_components())
            near = did_you_mean(component_id, known)
            message = f"unknown component {component_id!r}: is its plugin installed?{near} Known: {known}"
            raise ConfigurationError(message)
        return entry  # type: ignore[no-any-return]

    def list_components(self, component_type: str | None = None) -> dict[str, ComponentSpec]:
        """Registered components by id, of one slot or of all."""
        specs = {name: entry.spec for (kind, name), entry in sorted(self._entries.items()) if kind == "component"}
        return {name: spec for name, spec in specs.items() if component_type in (None, spec.component_type)}

    def reach(self, kind: str, name: str) -> Any:
        """Return what the loader has for such a pair: see ``set_loader``. Raises its reason."""
        return self._loader(kind, name)  # type: ignore[misc]

    def snapshot(self) -> Entries:
        """What is registered now, to ``restore`` later."""
        return dict(self._entries)

    def restore(self, snapshot: Entries) -> None:
        """Return to a snapshot."""
        self._entries = dict(snapshot)

    def _find(self, kind: str, name: str) -> Any:
        if (kind, name) not in self._entries and self._loader:
            self._loader(kind, name)
        return self._entries.get((kind, name))


WorldModelRegistry = Registry()
