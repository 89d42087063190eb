"""WorldFlux: one Python interface to world models.

Names load on first use, so importing this imports no torch. ``__init__.pyi`` tells type checkers the same names.
"""

from __future__ import annotations

import importlib
from typing import Any

from worldflux.core.events import listeners
from worldflux.core.registry import WorldModelRegistry

_HOME = {
    "agent": "Agent",
    "core.backends": "OfficialBackendHandle",
    "core.batch": "Batch",
    "core.components": "ActionConditioner Decoder DynamicsModel ObservationEncoder RolloutExecutor SLOTS arrival",
    "core.config": "WorldModelConfig",
    "core.errors": "BufferError CapabilityError CheckpointError ConfigurationError ContractValidationError "
    "ModelNotFoundError PluginError ShapeMismatchError StateError TrainingError ValidationError WorldFluxError "
    "did_you_mean",
    "core.fields": "Amount Count Field Fields NonNegative Positive Share json_schema",
    "blocks.latent_space": "CategoricalLatentSpace GaussianLatentSpace LatentSpace SimNormLatentSpace",
    "core.model": "WorldModel",
    "core.output": "LossOutput ModelOutput",
    "core.payloads": "Action ActionPayload ActionSequence ConditionPayload Observations WorldModelInput",
    "core.policy": "Carry Policy",
    "core.recipe": "Recipe",
    "core.registry": "ComponentSpec WorldModelRegistry",
    "core.spec": "ActionPart ActionSpec Capability ConditionSpec ModalityKind ModalitySpec ModelIOContract "
    "ObservationSpec PredictionSpec SequenceFieldSpec SequenceLayout StateSpec "
    "decoded vector",
    "core.state": "State",
    "core.trajectory": "Trajectory",
    "blocks": "decoder_losses",
    "data": "BatchProvider BatchProviderV2 BatchRequest EnvironmentSource Replay ReplayBuffer",
    "envs": "RandomPolicy VectorEnv make_env",
    "evals": "evaluate_policy imagine",
    "experiment": "Run fit",
    "factory": "create_world_model get_config get_model_info import_weights list_models",
    "training": "Trainer TrainingConfig train",
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names.split()}
_SUBMODULES = ("agent", "blocks", "core", "data", "envs", "evals", "experiment", "factory", "plugins", "training")
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
    from worldflux.plugins.kernel import get_kernel

    if kind == "integration":
        return importlib.import_module(f"worldflux.{name}")
    return get_kernel().backend(name) if kind == "backend" else get_kernel().ensure(kind, name)


def _tell(event: str, model: Any, **facts: Any) -> None:
    from worldflux.plugins import ModelSpec, get_kernel

    family, size = model.config.model_type, model.config.model_name
    plugin = WorldModelRegistry.model(family).plugin if WorldModelRegistry.registered(family) else None
    handle = getattr(model, "backend_handle", None)  # what the front door built it from
    spec = ModelSpec(handle.model_id if handle else f"{family}:{size}", family, plugin, model.api_version)
    get_kernel().notify(event, model=model, spec=spec, **facts)


# core itself knows no plugins: an unknown id starts the one that declares it, and events reach those that listen
WorldModelRegistry.set_loader(_load)
listeners.append(_tell)
