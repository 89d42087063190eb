"""Which family stands behind a name. No torch here, and no plugins: they fill it through the loader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .config import WorldModelConfig
from .errors import ConfigurationError, ModelNotFoundError, did_you_mean

ModelT = TypeVar("ModelT", bound=type)
Loader = Callable[[str, str], Any]
Listener = Callable[..., None]


@dataclass(frozen=True)
class ModelEntry:
    """A family's classes and the plugin ("name version") that brought them, if one did."""

    model_class: Any
    config_class: type[WorldModelConfig]
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
    """A component's class or factory and its description."""

    factory: Any
    spec: ComponentSpec
    plugin: str | None = None


class Registry:
    """Families and components by id. ``WorldModelRegistry`` is the process's own."""

    def __init__(self) -> None:
        self._models: dict[str, ModelEntry] = {}
        self._components: dict[str, ComponentEntry] = {}
        self._loader: Loader | None = None
        self._listener: Listener | None = None

    def set_loader(self, loader: Loader) -> None:
        """Install what is called with ``("model" | "component", id)`` when an id is not yet registered.

        Called with ``("backend", id)``, it returns the factory of that backend's adapter.
        """
        self._loader = loader

    def set_listener(self, listener: Listener) -> None:
        """Install what is called with what ``announce`` is given."""
        self._listener = listener

    def announce(self, event: str, model: Any, **facts: Any) -> None:
        """Tell of a "model_created", or of a "checkpoint_saved" with its ``path``; plugins may take note of it."""
        if self._listener:
            self._listener(event, model, **facts)

    def register(
        self,
        model_type: str,
        config_class: type[WorldModelConfig] | None = None,
        *,
        plugin: str | None = None,
    ) -> Callable[[ModelT], ModelT]:
        """Return a decorator that registers a model class. Raises ConfigurationError if the name is taken."""

        def decorate(model_class: ModelT) -> ModelT:
            own: type[WorldModelConfig] = getattr(model_class, "config_class", WorldModelConfig)
            self.add_model(model_type, ModelEntry(model_class, config_class or own, plugin))
            return model_class

        return decorate

    def add_model(self, model_type: str, entry: ModelEntry) -> None:
        """Register a family. Raises ConfigurationError if the name is taken."""
        name = model_type.lower()
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise ConfigurationError(f"model type {model_type!r} must be letters, digits, '-', '_' and '.'")
        if name in self._models:
            raise ConfigurationError(f"model type {name!r} is already registered by {self._models[name].model_class!r}")
        self._models[name] = entry

    def unregister(self, model_type: str) -> None:
        """Forget a family, if it is there."""
        self._models.pop(model_type.lower(), None)

    def registered(self, model_type: str) -> bool:
        """Whether the family is registered now, without loading anything."""
        return model_type.lower() in self._models

    def model(self, model_type: str) -> ModelEntry:
        """Return a family, activating its plugin if need be. Raises ModelNotFoundError or the plugin's reason."""
        name = model_type.lower()
        if name not in self._models and self._loader:
            self._loader("model", name)
        if name not in self._models:
            near = did_you_mean(name, self._models)
            raise ModelNotFoundError(f"Unknown model type: {name}. Available: {sorted(self._models)}.{near}")
        return self._models[name]

    def list_models(self) -> dict[str, Any]:
        """Registered model classes by type."""
        return {name: entry.model_class for name, entry in sorted(self._models.items())}

    def register_component(
        self, component_id: str, factory: Any, spec: ComponentSpec, *, plugin: str | None = None
    ) -> None:
        """Register a component's class or factory. Raises ConfigurationError if the id is taken."""
        if component_id in self._components:
            raise ConfigurationError(f"component {component_id!r} is already registered")
        self._components[component_id] = ComponentEntry(factory, spec, plugin)

    def unregister_component(self, component_id: str) -> None:
        """Forget a component, if it is there."""
        self._components.pop(component_id, None)

    def component(self, component_id: str) -> ComponentEntry:
        """Return a component, activating its plugin if need be. Raises ConfigurationError if unknown."""
        if component_id not in self._components and self._loader:
            self._loader("component", component_id)
        if component_id not in self._components:
            near = did_you_mean(component_id, self._components)
            raise ConfigurationError(
                f"unknown component {component_id!r}: is its plugin installed?{near} Known: {sorted(self._components)}"
            )
        return self._components[component_id]

    def backend(self, backend_id: str) -> Callable[[], Any]:
        """Return the factory of a backend's adapter. Raises ConfigurationError if unknown, or its plugin's reason."""
        return self._loader("backend", backend_id)  # type: ignore[no-any-return, misc]

    def list_components(self, component_type: str | None = None) -> dict[str, ComponentSpec]:
        """Registered components by id, of one slot or of all."""
        specs = {name: entry.spec for name, entry in sorted(self._components.items())}
        return {name: spec for name, spec in specs.items() if component_type in (None, spec.component_type)}

    def snapshot(self) -> tuple[dict[str, ModelEntry], dict[str, ComponentEntry]]:
        """What is registered now, to ``restore`` later."""
        return dict(self._models), dict(self._components)

    def restore(self, snapshot: tuple[dict[str, ModelEntry], dict[str, ComponentEntry]]) -> None:
        """Return to a snapshot."""
        self._models, self._components = dict(snapshot[0]), dict(snapshot[1])


WorldModelRegistry = Registry()
