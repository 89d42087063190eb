"""The family a check looks at: its plugin and manifest, and small models and batches of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from worldflux.core.errors import ConfigurationError
from worldflux.plugins import get_kernel
from worldflux.plugins.discovery import Plugin
from worldflux.plugins.manifest import Model

if TYPE_CHECKING:
    from worldflux.core.model import WorldModel

    from .startup import Startup

#: What models are built with where the author does not say; the first that the family accepts.
SHAPES: tuple[Mapping[str, Any], ...] = (
    {"obs_shape": (6,), "action_dim": 3},
    {"obs_shape": (3, 32, 32), "action_dim": 3},
    {"obs_shape": (3, 64, 64), "action_dim": 3},
)


class Subject:
    """A family under test.

    ``name`` is a family, preset or alias; of a family the smallest preset is used ("ci", else the first).
    ``options`` go to ``create_world_model``, such as ``obs_shape`` and ``action_dim``. ``plugin`` says whose family
    it is where several claim it.
    """

    def __init__(
        self, name: str, *, options: Mapping[str, Any] | None = None, plugin: Plugin | None = None
    ) -> None:
        self.plugin: Plugin = plugin or self._plugin_of(name)
        self.name = name
        self.options = None if options is None else dict(options)

    @staticmethod
    def _plugin_of(name: str) -> Plugin:
        family = name.partition(":")[0]
        for plugin in get_kernel().plugins:
            if {("models", family), ("models", name)} & plugin.ids:
                return plugin
        known = sorted(id for plugin in get_kernel().plugins for kind, id in plugin.ids if kind == "models")
        raise ConfigurationError(f"no plugin provides the family {name!r}; installed are {known}")

    @functools.cached_property
    def startup(self) -> Startup:
        """What the plugin does when it is started, seen once, in a process of its own."""
        from .startup import observe

        return observe(self.plugin)

    @functools.cached_property
    def family(self) -> Model | None:
        """The family's entry in the manifest; None where the plugin only names somebody else's presets."""
        assert self.plugin.manifest is not None
        word = get_kernel().resolve(self.preset).family
        return next((model for model in self.plugin.manifest.models if word in (model.id, *model.synonyms)), None)

    @property
    def capabilities(self) -> frozenset[str]:
        """The capabilities the manifest declares for the family."""
        return frozenset(self.family.capabilities) if self.family else frozenset()

    @functools.cached_property
    def preset(self) -> str:
        """The preset that is built: the one named, else "ci", else the first of the family."""
        assert self.plugin.manifest is not None
        family = next((m for m in self.plugin.manifest.models if self.name in (m.id, *m.synonyms)), None)
        if family is None or not family.presets:
            return self.name
        return family.preset_name("ci" if "ci" in family.presets else next(iter(family.presets)))

    def build(self, **changes: Any) -> WorldModel:
        """A fresh model in evaluation mode, as ``create_world_model`` gives it."""
        from worldflux.factory import create_world_model

        return create_world_model(self.preset, **{**self.shapes, **changes}).eval()

    @functools.cached_property
    def shapes(self) -> dict[str, Any]:
        """The options models are built with."""
        from worldflux.factory import create_world_model

        if self.options is not None:
            return self.options
        for options in SHAPES[:-1]:
            try:
                create_world_model(self.preset, **options)
            except ValueError:
                continue
            return dict(options)
        return dict(SHAPES[-1])
