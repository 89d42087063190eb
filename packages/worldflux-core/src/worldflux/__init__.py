"""WorldFlux: one Python interface to world models.

Names load on first use, so importing this imports no torch. ``__init__.pyi`` tells type checkers the same names.
"""

from __future__ import annotations

import importlib
import os
import sys
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from worldflux.core.events import listeners
from worldflux.core.registry import WorldModelRegistry

_HOME = {
    "agent": "Agent",
    "core.batch": "Batch",
    "core.components": "ActionConditioner Decoder DynamicsModel ObservationEncoder RolloutExecutor SLOTS arrival",
    "core.config": "WorldModelConfig",
    "core.errors": "BufferError CapabilityError CheckpointError ConfigurationError ContractValidationError "
    "ModelNotFoundError PluginError ShapeMismatchError StateError TrainingError ValidationError WorldFluxError "
    "did_you_mean",
    "core.fields": "Amount Count Field Fields NonNegative Positive Share",
    "blocks.latent_space": "CategoricalLatentSpace GaussianLatentSpace LatentSpace SimNormLatentSpace",
    "core.model": "WorldModel",
    "core.output": "LossOutput ModelOutput",
    "core.payloads": "Action ActionPayload ActionSequence ConditionPayload Observations WorldModelInput",
    "core.policy": "Carry Policy",
    "recipe": "Recipe",
    "core.registry": "ComponentSpec WorldModelRegistry",
    "core.spec": "ActionPart ActionSpec Capability ConditionSpec ModalityKind ModalitySpec ModelIOContract "
    "ObservationSpec PredictionSpec SequenceFieldSpec SequenceLayout StateSpec "
    "decoded vector",
    "core.state": "State",
    "core.trajectory": "Trajectory",
    "blocks": "decoder_losses",
    "delegated": "OfficialBackendHandle",
    "data": "BatchProvider BatchProviderV2 BatchRequest Dataset DatasetWriter EnvironmentSource Replay ReplayBuffer "
    "open_dataset",
    "envs": "RandomPolicy VectorEnv make_env",
    "evals": "evaluate_policy imagine",
    "experiment": "Run fit",
    "factory": "create_world_model get_config get_model_info list_models",
    "importing": "import_weights",
    "schema": "json_schema",
    "training": "Trainer TrainingConfig train",
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names.split()}
_SUBMODULES = (
    *("agent", "blocks", "core", "data", "delegated", "envs", "evals", "experiment", "factory", "planners", "plugins"),
    "training",
)
_ROOMS: dict[str, ModuleType] = {}  # what the kernel has reached for
_HAD_MORE = (
    *(f"worldflux.core.{name}" for name in ("batch", "config", "output", "payloads", "registry", "spec")),
    *("worldflux.factory", "worldflux.planners", "worldflux.training", "worldflux.training.callbacks"),
)
__all__ = ["__version__", *sorted(_MODULE_OF)]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(f"worldflux.{_MODULE_OF[name]}"), name)
    elif name in _SUBMODULES:
        value = importlib.import_module(f"worldflux.{name}")
    elif name == "__version__":
        from worldflux.plugins.versions import kernel_version

        value = kernel_version()
    elif name.startswith("_"):
        raise AttributeError(f"module 'worldflux' has no attribute {name!r}")
    else:
        from worldflux.earlier import find

        value = find(name)
    globals()[name] = value  # found once; the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})


def _load(kind: str, name: str) -> Any:
    if kind == "integration":
        if name not in _ROOMS:  # looked up by ourselves: what is compiled whole cannot follow an import
            _ROOMS[name] = importlib.import_module(f"worldflux.{name}")
        return _ROOMS[name]
    from worldflux.plugins.kernel import get_kernel

    if kind == "declared":
        return get_kernel().catalog.items(name)
    if kind == "importer":
        return get_kernel().target("importers", name)
    return get_kernel().factory(kind, name) if kind in ("backend", "format") else get_kernel().ensure(kind, name)


def _tell(event: str, model: Any, **facts: Any) -> None:
    if event == "component_set":
        if facts["slot"] == "action_conditioner":
            from worldflux.earlier import give_payloads

            give_payloads(facts["part"], model)
        return
    if not hasattr(model, "io_contract"):  # plugins are told of world models
        return
    from worldflux.plugins import ModelSpec, get_kernel

    family, size = model.config.model_type, model.config.model_name
    plugin = WorldModelRegistry.model(family).plugin if WorldModelRegistry.registered(family) else None
    handle = getattr(model, "backend_handle", None)  # what the front door built it from
    spec = ModelSpec(handle.model_id if handle else f"{family}:{size}", family, plugin, model.api_version)
    get_kernel().notify(event, model=model, spec=spec, **facts)


class _Elsewhere:
    """Asked by Python, last of all, for modules that nobody has: earlier versions may have had them."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.partition(".")[0] not in ("worldflux", "worldflux_dreamer", "worldflux_tdmpc"):
            return None
        from worldflux.earlier import spec_of

        return spec_of(name)


class _HadMore:
    """Asked first: gives modules that had more names in earlier versions a ``__getattr__`` for these."""

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in _HAD_MORE:
            return None
        after = sys.meta_path[sys.meta_path.index(cls) + 1 :]  # the module is found by whoever would find it without us
        asked = (finder.find_spec(name, path, target) for finder in after if hasattr(finder, "find_spec"))
        spec = next(filter(None, asked), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader:
    """Loads a module as its own loader does, and gives it the names of earlier versions."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        if name == "_loader":  # not there yet while this is copied
            raise AttributeError(name)
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader  # we are not needed any more
        self._loader.exec_module(module)
        _give_earlier_names(module)


def _give_earlier_names(module: ModuleType) -> None:
    own = vars(module).get("__getattr__")
    if getattr(own, "__module__", None) == __name__:  # the module, or this one, is loaded again
        return

    def __getattr__(name: str) -> Any:
        if own is not None and name in vars(module).get("__all__", ()):
            return own(name)
        submodule = any(os.path.exists(f"{folder}/{name}.py") for folder in vars(module).get("__path__", ()))
        if submodule or name.startswith("__"):
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        from worldflux.earlier import find

        vars(module)[name] = value = find(name, module.__name__)
        return value

    vars(module)["__getattr__"] = __getattr__


def _earlier_method(name: str, *args: Any, **options: Any) -> Any:
    from worldflux.earlier import registry_method

    return registry_method(name)(*args, **options)


def _others(entries: list[Any]) -> list[Any]:
    """What is not of this module: it may be loaded again, and is then there once."""
    return [entry for entry in entries if getattr(entry, "__module__", None) != __name__]


sys.meta_path[:] = [_HadMore, *_others(sys.meta_path), _Elsewhere]
for _name in ("worldflux.core", "worldflux.core.registry"):  # they are loaded already
    _give_earlier_names(sys.modules[_name])
for _name in ("from_pretrained", "list_catalog", "load_entrypoint_plugins", "resolve_alias"):
    setattr(WorldModelRegistry, _name, partial(_earlier_method, _name))

# core itself knows no plugins: an unknown id starts the one that declares it, and events reach those that listen
WorldModelRegistry.set_loader(_load)
listeners[:] = [*_others(listeners), _tell]
