"""The front door: models by name. Listing and describing read manifests only, and import neither plugins nor torch."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from worldflux.core.errors import ConfigurationError, ModelNotFoundError, did_you_mean
from worldflux.core.events import announce
from worldflux.core.registry import NATIVE_BACKEND, WorldModelRegistry
from worldflux.files import expanded
from worldflux.plugins.catalog import Resolved
from worldflux.plugins.kernel import get_kernel

if TYPE_CHECKING:
    import torch

    from worldflux.core.config import WorldModelConfig
    from worldflux.core.model import WorldModel
    from worldflux.core.spec import ActionSpec

TIERS = ("supported", "advanced", "experimental", "internal")
SURFACES = {"supported": 1, "public": 2, "all": 4}  # how many of the tiers are on each
MATURITIES = ("reference", "experimental", "skeleton")
PRESET = "the name of a preset such as 'dreamer:ci'"


def create_world_model(
    model: str | os.PathLike[str],
    *,
    obs_shape: tuple[int, ...] | None = None,
    action_dim: int | None = None,
    observation_modalities: Mapping[str, Any] | None = None,
    action_spec: ActionSpec | Mapping[str, Any] | None = None,
    component_overrides: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
    api_version: str = "v3",
    **kwargs: Any,
) -> WorldModel:
    """Build a model from a preset or alias, or load one from the folder ``save_pretrained`` wrote.

    ``obs_shape`` is one observation without batch and time, (8,) or for images (3, 64, 64);
    ``observation_modalities`` maps names to ``{"shape", "kind", "dtype"}`` for several; ``action_spec`` is
    ``{"kind", "dim", "num_actions"}`` (an environment's ``obs_spec`` and ``action_spec`` fit as they are).
    ``component_overrides`` maps slots to registered ids, classes or instances. Further keywords are fields of the
    family's config. ``backend=`` other than "native_torch" gives a handle on an official program instead.

    Raises:
        ModelNotFoundError: no family, preset, alias or folder has that name.
        PluginError: the plugin that has it is rejected, blocked, or fails to start.
        ConfigurationError: an unknown keyword, slot, component, backend or device, or values that contradict each
            other or the saved model. All three are ValueErrors.
    """
    backend = kwargs.pop("backend", None) or NATIVE_BACKEND
    _expect("model", model, (str, os.PathLike), f"{PRESET}, or the folder of a saved model")
    _expect("backend", backend, str, "the id of a backend")
    _expect("component_overrides", component_overrides, (Mapping, type(None)), "slots mapped to components")
    named = {"observation_modalities": observation_modalities, "action_spec": action_spec}
    given = _given(kwargs, obs_shape=obs_shape, action_dim=action_dim, **named)
    if api_version != "v3" or "hybrid" in (given.get("action_type"), given.get("action_spec", {}).get("kind")):
        given = WorldModelRegistry.reach("integration", "earlier.options").of_today(given, api_version)
    found = _find(model)
    if backend != NATIVE_BACKEND:  # the one case that is no model; who asks for it knows, all others are spared a union
        about: dict[str, Any] = {"requested_device": str(device), "api_version": api_version}
        return cast("WorldModel", _delegated(found, backend, given, about))
    from worldflux.core.doors import checked_device  # not for listing

    checked_device(device)
    if isinstance(found, Path):
        built: WorldModel = WorldModelRegistry.reach("integration", "saved").confirmed(found, given)
        model_id = str(found)
    else:
        built, model_id = WorldModelRegistry.model(found.family).model_class(_config(found, given)), found.model_id
    if api_version != "v3" or not hasattr(built, "api_version"):  # a plain module has none
        built.api_version = api_version
    if component_overrides and not hasattr(built, "set_component"):
        raise ConfigurationError(f"{type(built).__name__} has no slots: leave component_overrides out")
    for slot, component in (component_overrides or {}).items():
        built.set_component(slot, component)
    built.to(device)
    about = {"execution_kind": "native_model", "device": str(device), "api_version": built.api_version}
    handle = WorldModelRegistry.reach("integration", "delegated").OfficialBackendHandle
    vars(built).update(backend=backend, backend_handle=handle(backend, model_id, about))
    announce("model_created", built)
    return built


@overload
def list_models(verbose: Literal[False] = ..., maturity: str | None = ..., surface: str | None = ...) -> list[str]: ...
@overload
def list_models(
    verbose: Literal[True], maturity: str | None = ..., surface: str | None = ...
) -> dict[str, dict[str, Any]]: ...
def list_models(
    verbose: bool = False, maturity: str | None = None, surface: str | None = "supported"
) -> list[str] | dict[str, dict[str, Any]]:
    """Names of the presets that can be built here, or with ``verbose`` their catalogue entries by name.

    ``surface`` is "supported" (also what None means), "public" (and advanced ones) or "all"; ``maturity`` keeps
    "reference", "experimental" or "skeleton" presets. No preset of the last two is on the supported surface, so asking
    for them looks at all.

    Raises:
        ConfigurationError: an unknown surface or maturity.
    """
    surface = _one_of("surface", "supported" if surface is None or str(surface) == "" else surface, SURFACES)
    if maturity is not None:
        maturity = _one_of("maturity", maturity, MATURITIES)
        surface = "all" if maturity != "reference" and surface == "supported" else surface
    shown = {}
    for entry in (found.entry() for found in _listed()):
        if entry["support_tier"] in TIERS[: SURFACES[surface]] and maturity in (None, entry["maturity"]):
            shown[entry["name"]] = entry
    return shown if verbose else list(shown)


def get_model_info(model: str) -> dict[str, Any]:
    """The catalogue entry of a preset or alias, with ``model_id`` and, if it is one, ``alias``.

    Raises:
        ModelNotFoundError: nothing has that name.
        PluginError: the plugin that has it is rejected or blocked.
    """
    _expect("model", model, str, PRESET)
    found = get_kernel().resolve(model)
    if found.preset is None and found.plugin is not None:
        raise get_kernel().catalog.unknown_size(found.family, found.size)
    return found.entry() | {"model_id": found.model_id} | ({"alias": found.alias} if found.alias else {})


def get_config(
    model: str, *, obs_shape: tuple[int, ...] | None = None, action_dim: int | None = None, **kwargs: Any
) -> WorldModelConfig:
    """The family's config of a preset or alias, with changes; raises what ``create_world_model`` raises."""
    _expect("model", model, str, PRESET)
    return _config(get_kernel().resolve(model), _given(kwargs, obs_shape=obs_shape, action_dim=action_dim))


def _listed() -> list[Resolved]:
    """Every listed preset, then the families that scripts registered."""
    catalog = get_kernel().catalog
    own = [name for name in WorldModelRegistry.list_models() if name not in catalog.families]
    return catalog.presets + [Resolved(f"{name}:base", name, "base") for name in own]


def _find(model: str | os.PathLike[str]) -> Resolved | Path:
    """A preset, or a folder with a saved model; what looks like a path is never taken for anything else."""
    text = os.fspath(model)
    path = expanded(text)
    if not isinstance(model, str) or "/" in text or "\\" in text or text.startswith((".", "~")):
        if path.is_dir():
            return path
        what = "is a file, expected the folder it is in" if path.exists() else f"does not exist (from {Path.cwd()})"
        hub = "" if path.exists() else "; a model on the Hub loads with WorldModel.from_pretrained('owner/name')"
        raise ModelNotFoundError(f"{text!r} looks like a path and {what}{hub}")
    try:
        return get_kernel().resolve(text)
    except ModelNotFoundError:
        if (path / "config.json").is_file():
            return path
        raise


def _expect(name: str, value: Any, kinds: type | tuple[type, ...], what: str) -> None:
    """Raises ConfigurationError for an argument of another kind."""
    if not isinstance(value, kinds):
        raise ConfigurationError(f"{name} is {value!r}, expected {what}")


def _one_of(name: str, value: Any, known: Collection[str]) -> str:
    """The word of a closed list that is meant. Raises ConfigurationError with the nearest."""
    _expect(name, value, str, f"one of {list(known)}")
    word: str = value.strip().lower().replace("_", "-").removesuffix("-family")
    if word not in known:
        near = did_you_mean(word, known)
        raise ConfigurationError(f"Unsupported {name} {value!r}, expected one of {list(known)}.{near}")
    return word


def _given(kwargs: Mapping[str, Any], **named: Any) -> dict[str, Any]:
    """The config fields the caller stated."""
    from worldflux.core.spec import ActionSpec  # not for listing

    spec, action_dim = named.get("action_spec"), named["action_dim"]
    what = "an ActionSpec, or a mapping such as {'kind': 'continuous', 'dim': 2}"
    _expect("action_spec", spec, (ActionSpec, Mapping, type(None)), what)
    named["action_spec"] = spec = asdict(spec) if isinstance(spec, ActionSpec) else spec
    dim = (spec or {}).get("dim", (spec or {}).get("num_actions"))
    if None not in (dim, action_dim) and dim != action_dim:
        raise ConfigurationError(f"action_dim={action_dim} contradicts action_spec, whose dim is {dim}")
    return {**kwargs, **{name: value for name, value in named.items() if value is not None}}


def _config(found: Resolved, given: Mapping[str, Any]) -> WorldModelConfig:
    """The config of a preset with the caller's changes. Raises ConfigurationError naming an unknown field."""
    from worldflux.core.config import WorldModelConfig, config_class_of
    from worldflux.core.fields import renamed

    kernel, config_class = get_kernel(), config_class_of(WorldModelRegistry.model(found.family))
    if found.plugin is None:  # registered by a script: its config class knows the sizes, if there are any
        known = config_class.from_size.__func__ is not WorldModelConfig.from_size.__func__  # type: ignore[attr-defined]
        if found.size != "base" and not known:
            raise ModelNotFoundError(f"Unknown size: {found.size}. Available: ['base'] (model type {found.family!r})")
        return config_class.from_size(found.size, **{"model_type": found.family, **given})
    if (values := kernel.preset_config(found)) is None:
        raise kernel.catalog.unknown_size(found.family, found.size)
    base = {"model_type": found.family, "model_name": found.size}
    return config_class.from_dict({**base, **values, **renamed(config_class, given)})


def _delegated(found: Resolved | Path, backend: str, given: Mapping[str, Any], about: dict[str, Any]) -> Any:
    """The handle on the official program that a backend runs a preset with."""
    kernel = get_kernel()
    _, declared = kernel.catalog.provider("backends", backend, NATIVE_BACKEND)
    if isinstance(found, Path):
        raise ConfigurationError(f"backend {backend!r} runs presets, not the saved model {str(found)!r}")
    about["config"] = _config(found, given).to_dict()
    room = WorldModelRegistry.reach("integration", "delegated.handle")
    return room.handle_of(found, declared, accepted=[kernel.resolve(name) for name in declared.models], about=about)
