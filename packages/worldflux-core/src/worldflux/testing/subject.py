"""The family a check looks at: its plugin and manifest, and small models and batches of it."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from worldflux.core.errors import ConfigurationError
from worldflux.plugins import get_kernel
from worldflux.plugins.discovery import Plugin
from worldflux.plugins.manifest import Model

if TYPE_CHECKING:
    from worldflux.core.batch import Batch
    from worldflux.core.config import WorldModelConfig
    from worldflux.core.model import WorldModel

    from .echo import EchoWorld
    from .inputs import Inputs
    from .learner import Fit, Pupil
    from .startup import Startup

#: What models are built with where the author does not say; the first that the family accepts.
SHAPES: tuple[Mapping[str, Any], ...] = (
    {"obs_shape": (6,), "action_dim": 3},
    {"obs_shape": (3, 32, 32), "action_dim": 3},
    {"obs_shape": (3, 64, 64), "action_dim": 3},
)

CHOICE = {"kind": "discrete", "dim": 3}


class Subject:
    """A family under test.

    ``name`` is a family, preset or alias; of a family the smallest preset is used ("ci", else the first).
    ``options`` go to ``create_world_model``, such as ``obs_shape`` and ``action_dim``. ``plugin`` says whose family
    it is where several claim it. ``without`` names the capabilities of the manifest that a model of
    these options has not.
    """

    def __init__(
        self,
        name: str,
        *,
        options: Mapping[str, Any] | None = None,
        plugin: Plugin | None = None,
        without: Collection[str] = (),
    ) -> None:
        self.plugin: Plugin = plugin or self._plugin_of(name)
        self.name = name
        self.options = None if options is None else dict(options)
        self.without = frozenset(without)
        self.causes: dict[str, str] = {}  # what checks failed of, and the first that did

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
        """The capabilities the manifest declares for the family, but for those its options do without."""
        return (frozenset(self.family.capabilities) if self.family else frozenset()) - self.without

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

    # --- what it declares -----------------------------------------------------------------------------------------

    def declares(self, *names: str) -> bool:
        """Whether the manifest declares any of these capabilities."""
        return bool(self.capabilities & set(names))

    @functools.cached_property
    def earlier(self) -> bool:
        """Whether the family overrides ``io_contract``, as all did before they stated its parts."""
        from worldflux.core.model import WorldModel

        return type(self._like).io_contract is not WorldModel.io_contract

    @property
    def presets(self) -> list[str]:
        """Every preset of the family, by name."""
        return [self.family.preset_name(key) for key in self.family.presets] if self.family else [self.preset]

    def config(self, preset: str) -> WorldModelConfig:
        """The config of a preset as the manifest states it; where that says too little, with this subject's shapes."""
        from worldflux.factory import get_config

        try:
            return get_config(preset)
        except ValueError:
            return get_config(preset, **self.shapes)

    @functools.cached_property
    def configs(self) -> dict[str, WorldModelConfig]:
        """The configs of all presets that build."""
        found = {}
        for preset in self.presets:
            with contextlib.suppress(ValueError):
                found[preset] = self.config(preset)
        return found

    # --- a model, and what to give it -----------------------------------------------------------------------------

    def model(self, **changes: Any) -> WorldModel:
        """A fresh model like ``build``'s, its weights shaken: layers that start as zeros would hide what they do."""
        if changes:
            return self._shaken(self.build(**changes))
        return copy.deepcopy(self._like)

    @functools.cached_property
    def _like(self) -> WorldModel:
        return self._shaken(self.build())

    @staticmethod
    def _shaken(model: WorldModel) -> WorldModel:
        import torch

        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.is_floating_point():
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter.add_(0.02 * noise.to(parameter))
        return model

    @functools.cached_property
    def pictures(self) -> Mapping[str, Any] | None:
        """Options with an image to observe; None if the family takes none of the kit's, or the author's hold none."""
        candidates = SHAPES if self.options is None else (self.options,)
        for options in candidates:
            try:
                modalities = self.build(**options).io_contract().effective_input_spec.modalities
            except ValueError:
                continue
            if any(spec.kind.value == "image" for spec in modalities.values()):
                return options
        return None

    @functools.cached_property
    def discrete(self) -> Subject | None:
        """The family with one action of three classes to choose from; None if it does not take that."""
        if self._like.io_contract().action_spec.kind == "discrete":
            return self
        given = {name: value for name, value in self.shapes.items() if name not in ("action_dim", "action_type")}
        choosing = {**given, "action_spec": CHOICE}
        other = Subject(self.name, options=choosing, plugin=self.plugin, without=self.without)
        try:
            other.build()
        except ValueError:
            return None
        return other

    @functools.cached_property
    def echo(self) -> EchoWorld:
        """The toy world that the subject's model observes and acts in."""
        from .echo import EchoWorld

        contract = self._like.io_contract()
        return EchoWorld(contract.effective_input_spec.modalities, contract.action_spec)

    def batch(self, size: int = 3, rows: int = 8, *, seed: int = 0) -> Batch:
        """Sequences ``[size, context_rows + rows, ...]`` of the toy world, with every field the contract requires."""
        from .inputs import complete

        batch = self.echo.batch(size, self._like.context_rows + rows, seed=seed)
        return complete(batch, self._like.io_contract())

    def inputs(self, size: int = 3) -> Inputs:
        """What every method of the contract can be called with, for ``size`` rows; the caller's own copy."""
        from .inputs import make_inputs

        if size not in self._inputs:
            self._inputs[size] = make_inputs(
                self.echo,
                self.model(),
                self.batch(size),
                size=size,
                encodes=self.declares("representation", "latent_dynamics"),
            )
        return self._inputs[size].clone()

    @functools.cached_property
    def _inputs(self) -> dict[int, Inputs]:
        return {}

    # --- what learning showed (once for all checks that ask) ------------------------------------------------------

    @functools.cached_property
    def fit(self) -> Fit:
        """Thirty updates on one batch."""
        from .learner import ROWS, fit

        return fit(self.build(), self.batch(4, ROWS))

    @functools.cached_property
    def pupil(self) -> Pupil:
        """A model that learns the toy world, as long as a check asks it to."""
        from .learner import ROWS, SEQUENCES, Pupil

        return Pupil(self.build(), lambda seed: self.batch(SEQUENCES, ROWS, seed=seed))
