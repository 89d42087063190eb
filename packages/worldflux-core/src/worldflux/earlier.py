"""What only code for earlier versions needs: names and modules they had, and where their things are today.

Nothing imports this but the front door, when it is asked for a name or a module that it does not have. Finding one
gives one DeprecationWarning that says where the thing is; nothing else is loaded before then.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
import random
import warnings
from collections.abc import Callable
from enum import Enum
from functools import partial
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

# name -> the module that has it, and its name there where that is another
_MOVED = {
    "ACTION_COMPONENTS_KEY": "worldflux.earlier",
    "CEMPlanner": "worldflux.planners",
    "EarlyStoppingCallback": "worldflux.training:EarlyStopping",
    "JobStatus": "worldflux.delegated",
    "PLANNER_HORIZON_KEY": "worldflux.core.payloads",
    "PLANNER_SEQUENCE_KEY": "worldflux.core.payloads",
    "Planner": "worldflux.planners",
    "PlannerObjective": "worldflux.planners:Objective",
    "ProgressCallback": "worldflux.training",
    "RewardObjective": "worldflux.planners",
    "RolloutEngine": "worldflux.core.components:RolloutExecutor",
    "SequenceProvider": "worldflux.data:BatchProvider",
    "TokenProvider": "worldflux.data:BatchProvider",
    "TransitionProvider": "worldflux.data:BatchProvider",
    "VideoProvider": "worldflux.data:BatchProvider",
    "WorldModelOutput": "worldflux.core.output:ModelOutput",
    "first_action": "worldflux.planners",
    "is_namespaced_extra_key": "worldflux.core.spec:namespaced",
    "normalize_planned_action": "worldflux.core.payloads",
    "symexp": "worldflux.blocks",
    "symlog": "worldflux.blocks",
}
# name -> family, attribute of its entry in the registry, and the package and name of the class
_FAMILIES = {
    "DreamerV3Config": ("dreamer", "config_class", "worldflux_dreamer.DreamerV3Config"),
    "DreamerV3WorldModel": ("dreamer", "model_class", "worldflux_dreamer.DreamerV3"),
    "TDMPC2Config": ("tdmpc2", "config_class", "worldflux_tdmpc.TDMPC2Config"),
    "TDMPC2WorldModel": ("tdmpc2", "model_class", "worldflux_tdmpc.TDMPC2"),
}
# module -> those of today that have what was in it; an entry with a star is for all modules beneath
_MODULES = {
    "worldflux.core.backend_bridge": "worldflux.core.backends",
    "worldflux.core.backend_handle": "worldflux.core.backends",
    "worldflux.core.exceptions": "worldflux.core.errors",
    "worldflux.core.latent_space": "worldflux.blocks.latent_space",
    "worldflux.core.interfaces": "worldflux.core.components worldflux.core.registry",
    "worldflux.core.model_registry": "worldflux.core.registry",
    "worldflux.core.protocol": "worldflux.core.model",
    "worldflux.models": "worldflux",
    "worldflux.models.dreamer": "worldflux_dreamer.dreamerv3",
    "worldflux.models.dreamer.*": "worldflux_dreamer.dreamerv3",
    "worldflux.models.tdmpc2": "worldflux_tdmpc.tdmpc2",
    "worldflux.models.tdmpc2.*": "worldflux_tdmpc.tdmpc2",
    "worldflux.planners.interfaces": "worldflux.planners",
    "worldflux.training.backend": "worldflux.delegated",
    "worldflux.training.data": "worldflux.data",
    "worldflux.utils": "worldflux.earlier",
    "worldflux_dreamer.actor": "worldflux_dreamer.dreamerv3.actor",
    "worldflux_dreamer.config": "worldflux_dreamer.dreamerv3.config",
    "worldflux_dreamer.decoder": "worldflux_dreamer.dreamerv3.codec",
    "worldflux_dreamer.distributions": "worldflux_dreamer.dreamerv3.distributions worldflux.blocks",
    "worldflux_dreamer.encoder": "worldflux_dreamer.dreamerv3.codec",
    "worldflux_dreamer.fast": "worldflux_dreamer.dreamerv3.fast.fast",
    "worldflux_dreamer.import_official": "worldflux_dreamer.dreamerv3.official "
    "worldflux_dreamer.dreamerv3.official_run",
    "worldflux_dreamer.losses": "worldflux_dreamer.dreamerv3.losses",
    "worldflux_dreamer.model": "worldflux_dreamer.dreamerv3.model",
    "worldflux_dreamer.networks": "worldflux_dreamer.dreamerv3.networks worldflux.blocks",
    "worldflux_dreamer.official_program": "worldflux_dreamer.dreamerv3.official_program",
    "worldflux_dreamer.official_settings": "worldflux_dreamer.dreamerv3.official_run",
    "worldflux_dreamer.optim": "worldflux_dreamer.dreamerv3.optim",
    "worldflux_dreamer.piecewise": "worldflux_dreamer.dreamerv3.fast.piecewise",
    "worldflux_dreamer.policy": "worldflux_dreamer.dreamerv3.policy",
    "worldflux_dreamer.rssm": "worldflux_dreamer.dreamerv3.rssm",
    "worldflux_dreamer.scan": "worldflux_dreamer.dreamerv3.fast.scan",
    "worldflux_tdmpc.config": "worldflux_tdmpc.tdmpc2.config",
    "worldflux_tdmpc.dynamics": "worldflux_tdmpc.tdmpc2.dynamics",
    "worldflux_tdmpc.encoder": "worldflux_tdmpc.tdmpc2.encoder",
    "worldflux_tdmpc.import_official": "worldflux_tdmpc.tdmpc2.official",
    "worldflux_tdmpc.losses": "worldflux_tdmpc.tdmpc2.losses",
    "worldflux_tdmpc.model": "worldflux_tdmpc.tdmpc2.model",
    "worldflux_tdmpc.networks": "worldflux_tdmpc.tdmpc2.networks worldflux.blocks",
    "worldflux_tdmpc.official_program": "worldflux_tdmpc.tdmpc2.official_program",
    "worldflux_tdmpc.official_settings": "worldflux_tdmpc.tdmpc2.official",
    "worldflux_tdmpc.policy": "worldflux_tdmpc.tdmpc2.policy",
    "worldflux_tdmpc.twohot": "worldflux_tdmpc.tdmpc2.twohot",
}
# modules that are still there -> what else was in them (the front door gives them a ``__getattr__`` for it)
NAMES = {
    "worldflux.core.batch": "BatchProvider BatchProviderV2 BatchRequest SequenceProvider TokenProvider "
    "TransitionProvider VideoProvider",
    "worldflux.core.config": "DreamerV3Config TDMPC2Config",
    "worldflux.core.output": "WorldModelOutput",
    "worldflux.core.payloads": "ACTION_COMPONENTS_KEY WorldModelOutput first_action is_namespaced_extra_key",
    "worldflux.core.registry": "AutoConfig AutoWorldModel",
    "worldflux.core.spec": "ModelMaturity",
    "worldflux.factory": "MODEL_ALIASES MODEL_CATALOG",
    "worldflux.planners": "PlannerObjective",
    "worldflux.training": "JobStatus ReplayBuffer",
    "worldflux.training.callbacks": "EarlyStoppingCallback ProgressCallback",
}
# name -> why there is nothing in its place
GONE = {
    "AsyncDecoder": "nothing called the asynchronous parts",
    "AsyncDynamicsModel": "nothing called the asynchronous parts",
    "AsyncObservationEncoder": "nothing called the asynchronous parts",
    "AsyncRolloutExecutor": "nothing called the asynchronous parts",
    "DiTSkeletonConfig": "it was a skeleton",
    "DiTSkeletonWorldModel": "it was a skeleton",
    "DiffusionWorldModel": "no package has diffusion models yet",
    "DiffusionWorldModelConfig": "no package has diffusion models yet",
    "DynamicsType": "nothing read it: a family's class says what its dynamics are",
    "GANSkeletonConfig": "it was a skeleton",
    "GANSkeletonWorldModel": "it was a skeleton",
    "JEPABaseConfig": "no package has JEPA yet",
    "JEPABaseWorldModel": "no package has JEPA yet",
    "LatentType": "nothing read it: a family's class says what its latents are",
    "PhysicsSkeletonConfig": "it was a skeleton",
    "PhysicsSkeletonWorldModel": "it was a skeleton",
    "PluginManifest": "a plugin's manifest is its worldflux.toml",
    "Renderer3DSkeletonConfig": "it was a skeleton",
    "Renderer3DSkeletonWorldModel": "it was a skeleton",
    "SSMSkeletonConfig": "it was a skeleton",
    "SSMSkeletonWorldModel": "it was a skeleton",
    "TokenSpec": "a ModalitySpec of kind 'tokens' says what a model reads",
    "TokenWorldModel": "no package has token models yet",
    "TokenWorldModelConfig": "no package has token models yet",
    "VJEPA2Config": "no package has V-JEPA 2 yet",
    "VJEPA2WorldModel": "no package has V-JEPA 2 yet",
    "WorldModelBuilder": "create_world_model takes everything at once",
    "execution": "the handle of a backend starts official programs",
    "resolve_backend_execution": "create_world_model(..., backend=...) gives the handle",
}


# --- finding ------------------------------------------------------------------------------------------------------


def find(name: str, module: str = "worldflux") -> Any:
    """The thing that had this name in a module of an earlier version, with one DeprecationWarning.

    Raises:
        AttributeError: it had no such name, or what it named is gone.
        ImportError: the family that has it is not installed.
    """
    front = importlib.import_module("worldflux")
    if module not in ("worldflux", "worldflux.core") and name not in NAMES[module].split():
        raise _no_such(module, name)
    place, value = (f"worldflux.{name}", getattr(front, name)) if name in front.__all__ else _found(name, module)
    warnings.warn(f"{module}.{name} is of an earlier version. Use '{place}' instead.", DeprecationWarning, stacklevel=3)
    return value


def _no_such(module: str, name: str, otherwise: str = "") -> AttributeError:
    why = f"it is gone, {GONE[name]} (docs/api-compat.md)" if name in GONE else otherwise
    return AttributeError(f"module {module!r} has no attribute {name!r}{': ' if why else ''}{why}")


def _found(name: str, module: str) -> tuple[str, Any]:
    """Where a name of the front door is today, and its thing."""
    if name in _MOVED:
        today, _, renamed = _MOVED[name].partition(":")
        return f"{today}.{renamed or name}", getattr(importlib.import_module(today), renamed or name)
    if name in _FAMILIES:
        family, attribute, place = _FAMILIES[name]
        return place, _of_family(family, attribute)
    if name in _MADE:
        place, make = _MADE[name]
        return place, make()
    raise _no_such(module, name)


def _of_family(family: str, attribute: str) -> Any:
    registry = importlib.import_module("worldflux.core.registry").WorldModelRegistry
    try:
        return getattr(registry.model(family), attribute)
    except ValueError as error:  # it says which package has the family
        raise ImportError(str(error)) from error


# --- modules that are elsewhere -----------------------------------------------------------------------------------


def spec_of(module: str) -> ModuleSpec | None:
    """How Python makes a module of an earlier version, or None if there was none of that name."""
    today = _MODULES.get(module) or _MODULES.get(f"{module.rpartition('.')[0]}.*")
    if today is None:
        return None
    package = any(name.startswith(f"{module}.") for name in _MODULES)
    return ModuleSpec(module, _EarlierModule(today.split()), is_package=package)


class _EarlierModule(InspectLoader):
    """Makes a module that looks its names up in those of today, and loads these when it is asked for one."""

    def __init__(self, today: list[str]) -> None:
        self._today = today

    def get_source(self, fullname: str) -> str:
        return ""

    def exec_module(self, module: ModuleType) -> None:
        root = self._today[0].partition(".")[0]
        if importlib.util.find_spec(root) is None:
            raise ImportError(f"{module.__name__}: {_absent(root)}", name=root)
        vars(module)["__getattr__"] = lambda name: self._value(module, name)
        if self._today != ["worldflux"]:  # a folder of modules that tell it themselves
            message = f"{module.__name__} is of an earlier version. Use '{self._today[0]}' instead."
            warnings.warn(message, DeprecationWarning, stacklevel=2)

    def _value(self, module: ModuleType, name: str) -> Any:
        old = module.__name__
        if name == "__all__" and self._today != ["worldflux"]:
            return sorted({public for today in self._loaded(old, name) for public in _public(today)})
        if name.startswith("__"):
            raise _no_such(old, name)
        if old.startswith("worldflux.") and name in {*_MOVED, *_FAMILIES, *_MADE}:
            place, value = _found(name, old)
            if self._today == ["worldflux"]:
                warnings.warn(f"{old}.{name} is of an earlier version. Use '{place}' instead.", DeprecationWarning, 3)
            return value
        for today in self._loaded(old, name):
            if hasattr(today, name):
                return getattr(today, name)
        raise _no_such(old, name, f"what is left of the module is in {' and '.join(self._today)}")

    def _loaded(self, old: str, name: str) -> list[ModuleType]:
        """The modules of today, of a package that may have gone since. Raises AttributeError if it has."""
        try:
            return [importlib.import_module(today) for today in self._today if today != "worldflux"]
        except ModuleNotFoundError as error:
            root = self._today[0].partition(".")[0]
            if str(error.name).partition(".")[0] != root:
                raise
            raise _no_such(old, name, _absent(root)) from error


def _absent(package: str) -> str:
    project = package.replace("_", "-")
    return f"{project} is not installed: pip install {project}"


def _public(module: ModuleType) -> list[str]:
    """What ``from module import *`` would give."""
    return getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]


# --- what was made anew -------------------------------------------------------------------------------------------

ACTION_COMPONENTS_KEY = "wf.action.components"


class ModelMaturity(str, Enum):
    """How far a family has got; ``list_models`` takes the plain words."""

    REFERENCE = "reference"
    EXPERIMENTAL = "experimental"
    SKELETON = "skeleton"


def set_seed(seed: int, deterministic: bool = False) -> None:
    """Seed the global generators of Python, numpy and torch; models and environments here have seeds of their own."""
    random.seed(seed)
    importlib.import_module("numpy").random.seed(seed)
    torch = importlib.import_module("torch")
    torch.manual_seed(seed)
    if deterministic:
        torch.use_deterministic_algorithms(True)


def give_payloads(conditioner: Any, model: Any) -> None:
    """Have an action conditioner that reads ``action.tensor`` or the like, as earlier ones did, given a payload.

    Its kind is that of the model's actions; a part that was given to a model before has its kind changed.
    """
    code = getattr(getattr(type(conditioner), "condition", None), "__code__", None)
    if code is not None and {"tensor", "kind", "primary", "extras"} & set(code.co_names):
        condition, kind = conditioner.condition, getattr(getattr(model, "config", None), "action_type", "continuous")
        if isinstance(condition, partial) and condition.func is _with_payload:
            condition = condition.args[0]
        with contextlib.suppress(AttributeError):  # an object with slots stays as it is
            conditioner.condition = partial(_with_payload, condition, "continuous" if kind == "multi" else kind)


def _with_payload(condition: Callable[..., Any], kind: str, state: Any, action: Any, conditions: Any = None) -> Any:
    payload = importlib.import_module("worldflux.core.payloads").ActionPayload
    try:
        return condition(state, action, conditions)
    except AttributeError as error:
        if error.obj is not action or not hasattr(payload, str(error.name)):
            raise
        return condition(state, payload(kind, action), conditions)


def create_random_buffer(
    capacity: int = 10000,
    obs_shape: tuple[int, ...] = (3, 64, 64),
    action_dim: int = 6,
    num_episodes: int = 100,
    episode_length: int = 100,
    seed: int | None = None,
) -> Any:
    """A ReplayBuffer of episodes of random numbers, at most ``episode_length`` actions each."""
    rng = importlib.import_module("numpy").random.default_rng(seed)
    buffer = importlib.import_module("worldflux.data").ReplayBuffer(capacity, obs_shape, action_dim, seed=seed or 0)
    for _ in range(num_episodes):
        steps = int(rng.integers(max(1, episode_length // 2), episode_length + 1))
        obs = rng.standard_normal((steps + 1, *obs_shape), dtype="float32")
        actions = rng.standard_normal((steps, action_dim), dtype="float32")
        dones = [step == steps - 1 for step in range(steps)]
        buffer.add_episode(obs, actions, rng.standard_normal(steps, dtype="float32"), dones)
    return buffer


def read_state(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors and the meta of a state as it was serialized before it had a hash. Raises ValueError if damaged."""
    torch, parse_json = importlib.import_module("torch"), importlib.import_module("worldflux.core.files").parse_json
    place = 9 + int.from_bytes(data[5:9], "big")  # the magic word, the version, the length of the header
    header, tensors = parse_json(data[9:place]), {}
    for entry in header["tensors"]:
        name, shape, size, dtype = entry["name"], entry["shape"], entry["size"], getattr(torch, entry["dtype"])
        whole = all(type(number) is int and 0 <= number < 1 << 40 for number in (size, *shape))
        if not isinstance(name, str) or name in tensors or not isinstance(dtype, torch.dtype) or not whole:
            raise ValueError(f"no tensor is {name!r}, {dtype} {shape}")
        if math.prod(shape) * dtype.itemsize != size or size > len(data) - place:
            raise ValueError(f"tensor {name!r}, {dtype} {shape}, has {min(size, len(data) - place)} bytes")
        blob = bytearray(data[place : place + size])
        flat = torch.frombuffer(blob, dtype=dtype) if size else torch.empty(0, dtype=dtype)
        tensors[name], place = flat.reshape(shape), place + size
    if place != len(data) or not isinstance(header["meta"], dict):
        raise ValueError("it does not end with its last tensor, or its meta is no object")
    return tensors, header["meta"]


def load_any(name_or_path: Any, **options: Any) -> Any:
    """A model from a preset, a folder, or the Hub (``owner/name``), as ``AutoWorldModel.from_pretrained`` took them."""
    text = str(name_or_path)
    if text.count("/") == 1 and ":" not in text and text[0] not in "./~" and not Path(text).exists():
        return importlib.import_module("worldflux.core.model").WorldModel.from_pretrained(text, **options)
    return _front_door("create_world_model")(name_or_path, **options)


def _front_door(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(importlib.import_module("worldflux.factory"), name)
    return found


def _kernel() -> Any:
    return importlib.import_module("worldflux.plugins").get_kernel()


def _catalog() -> Any:
    return _front_door("list_models")(verbose=True, surface="all")


# name -> what to use today, and how to make what stands for it
_MADE: dict[str, tuple[str, Callable[[], Any]]] = {
    "AutoConfig": ("worldflux.get_config", lambda: SimpleNamespace(from_pretrained=_front_door("get_config"))),
    "AutoWorldModel": ("worldflux.create_world_model", lambda: SimpleNamespace(from_pretrained=load_any)),
    "MODEL_ALIASES": ("worldflux.plugins.get_kernel().catalog.aliases", lambda: dict(_kernel().catalog.aliases)),
    "MODEL_CATALOG": ("worldflux.list_models(verbose=True, surface='all')", _catalog),
    "ModelMaturity": ("worldflux.factory.MATURITIES", lambda: ModelMaturity),
    "create_random_buffer": ("worldflux.ReplayBuffer", lambda: create_random_buffer),
    "set_seed": ("torch.manual_seed", lambda: set_seed),
}
# method of WorldModelRegistry -> what to use today, and what stands for it
METHODS: dict[str, tuple[str, Callable[..., Any]]] = {
    "from_pretrained": ("worldflux.create_world_model", load_any),
    "list_catalog": ("worldflux.list_models(verbose=True, surface='all')", _catalog),
    "load_entrypoint_plugins": ("worldflux.plugins.get_kernel().rediscover()", lambda force=False: None),
    "resolve_alias": ("worldflux.get_model_info", lambda model: _kernel().resolve(model).model_id),
}


def registry_method(name: str) -> Callable[..., Any]:
    """What stands for a method that ``WorldModelRegistry`` had, with one DeprecationWarning."""
    place, method = METHODS[name]
    message = f"WorldModelRegistry.{name} is of an earlier version. Use '{place}' instead."
    warnings.warn(message, DeprecationWarning, stacklevel=3)
    return method
