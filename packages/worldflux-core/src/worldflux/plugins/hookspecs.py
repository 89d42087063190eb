"""Hooks of plugin API 1.1, called only on plugins that are active.

Take only the arguments you use, and give them no defaults: pluggy versions disagree on what a default means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    from worldflux.core.model import WorldModel

hookspec = pluggy.HookspecMarker("worldflux")
hookimpl = pluggy.HookimplMarker("worldflux")


@dataclass(frozen=True)
class ModelSpec:
    """What a model was built from: ``model_id`` is its preset (or the path it came from)."""

    model_id: str
    family: str
    plugin: str | None
    api_version: str


class ModelRegistrar(Protocol):
    """Takes the families the manifest declares under ``[[models]]``."""

    def add(self, id: str, factory: Callable[..., WorldModel], config_type: type | None = None) -> None:
        """``factory`` (usually the model class) is called with a ``config_type``; raises PluginError."""


class ComponentRegistrar(Protocol):
    """Takes the components the manifest declares under ``[[components]]``."""

    def add(self, id: str, kind: str, factory: Callable[..., Any]) -> None:
        """``kind`` is the slot; ``factory`` is a class or function of nothing or of the model's config."""


class BackendRegistrar(Protocol):
    """Takes the backends the manifest declares under ``[[backends]]``."""

    def add(self, id: str, factory: Callable[..., Any]) -> None:
        """``factory()`` makes the adapter: a ``worldflux.delegated.SubprocessBackend``, usually its class."""


class FormatRegistrar(Protocol):
    """Takes the formats the manifest declares under ``[[formats]]``."""

    def add(self, id: str, factory: Callable[..., Any]) -> None:
        """``factory()`` makes the format: an object with ``name``, ``detect(path)`` and ``open(path, **options)``."""


@hookspec
def worldflux_register_models(registrar: ModelRegistrar) -> None:
    """Register every family of the manifest, names to classes.

    When: once, while the plugin is activated. Raising fails the activation, and nothing stays registered.

    .. versionadded:: 1.0
    """


@hookspec
def worldflux_register_components(registrar: ComponentRegistrar) -> None:
    """Register every component of the manifest.

    When: once, while the plugin is activated. Raising fails the activation, and nothing stays registered.

    .. versionadded:: 1.0
    """


@hookspec
def worldflux_register_backends(registrar: BackendRegistrar) -> None:
    """Register every backend of the manifest.

    When: once, while the plugin is activated. Raising fails the activation, and nothing stays registered.

    .. versionadded:: 1.0
    """


@hookspec
def worldflux_register_formats(registrar: FormatRegistrar) -> None:
    """Register every format of the manifest.

    When: once, while the plugin is activated. Raising fails the activation, and nothing stays registered.

    .. versionadded:: 1.1
    """


@hookspec(firstresult=True)
def worldflux_resolve_preset(family: str, preset: str) -> Mapping[str, Any] | None:
    """Return config values of a preset the manifest does not list, or None to leave it to others.

    When: each time such a preset of an active family is asked for. Raising reaches the user as a PluginError.

    .. versionadded:: 1.0
    """


@hookspec
def worldflux_model_created(model: WorldModel, spec: ModelSpec) -> None:
    """Take note of a model that was just built or loaded; the result is ignored.

    When: after each ``create_world_model``. Raising is logged with the plugin's name and disturbs nobody.

    .. versionadded:: 1.0
    """


@hookspec
def worldflux_checkpoint_saved(path: Path, spec: ModelSpec) -> None:
    """Take note of a training checkpoint that is complete on disk; the result is ignored.

    When: after each checkpoint. Raising is logged with the plugin's name and disturbs nobody.

    .. versionadded:: 1.0
    """
