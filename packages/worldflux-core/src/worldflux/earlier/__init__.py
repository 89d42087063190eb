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

from .names import FAMILIES, GONE, GONE_BELOW, MODULES, MOVED, NAMES


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
    gone = GONE.get(name) or GONE_BELOW.get(name)
    why = f"it is gone, {gone} (docs/api-compat.md)" if gone else otherwise
    return AttributeError(f"module {module!r} has no attribute {name!r}{': ' if why else ''}{why}")


def _found(name: str, module: str) -> tuple[str, Any]:
    """Where a name of the front door is today, and its thing."""
    if name in MOVED:
        today, _, renamed = MOVED[name].partition(":")
        return f"{today}.{renamed or name}", getattr(importlib.import_module(today), renamed or name)
    if name in FAMILIES:
        family, attribute, place = FAMILIES[name]
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
    today = MODULES.get(module) or MODULES.get(f"{module.rpartition('.')[0]}.*")
    if today is None:
        return None
    package = any(name.startswith(f"{module}.") for name in MODULES)
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
        if old.startswith("worldflux.") and name in {*MOVED, *FAMILIES, *_MADE}:
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
    torch, parse_json = importlib.import_module("torch"), importlib.import_module("worldflux.files").parse_json
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
