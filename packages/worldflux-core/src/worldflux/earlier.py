"""What only code for WorldFlux 0.1.1 needs: names it had at the top, and where their things are today.

Nothing imports this but the front door, when it is asked for a name that it does not have.
"""

from __future__ import annotations

import importlib
import random
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

# name -> the module that has it, and its name there where that is another
_MOVED = {
    "ACTION_COMPONENTS_KEY": "worldflux.core.payloads",
    "CEMPlanner": "worldflux.planners",
    "PLANNER_HORIZON_KEY": "worldflux.core.payloads",
    "PLANNER_SEQUENCE_KEY": "worldflux.core.payloads",
    "PlannerObjective": "worldflux.planners:Objective",
    "RewardObjective": "worldflux.planners",
    "RolloutEngine": "worldflux.core.components:RolloutExecutor",
    "WorldModelOutput": "worldflux.core.output:ModelOutput",
    "first_action": "worldflux.core.payloads",
    "is_namespaced_extra_key": "worldflux.core.spec:namespaced",
    "normalize_planned_action": "worldflux.core.payloads",
}
# name -> family, attribute of its entry in the registry, and the package that has the class
_FAMILIES = {
    "DreamerV3Config": ("dreamer", "config_class", "worldflux_dreamer"),
    "DreamerV3WorldModel": ("dreamer", "model_class", "worldflux_dreamer"),
    "TDMPC2Config": ("tdmpc2", "config_class", "worldflux_tdmpc"),
    "TDMPC2WorldModel": ("tdmpc2", "model_class", "worldflux_tdmpc"),
}


def find(name: str) -> Any:
    """The thing that had this name in 0.1.1, with one DeprecationWarning that says where it is today.

    Raises:
        AttributeError: it had no such name, or what it named is gone.
        ImportError: the family that has it is not installed.
    """
    if name in _MOVED:
        module, _, today = _MOVED[name].partition(":")
        place, value = f"{module}.{today or name}", getattr(importlib.import_module(module), today or name)
    elif name in _FAMILIES:
        family, attribute, package = _FAMILIES[name]
        place, value = f"{package}.{name}", _of_family(family, attribute)
    elif name in _MADE:
        place, make = _MADE[name]
        value = make()
    else:
        raise AttributeError(f"module 'worldflux' has no attribute {name!r}")
    warnings.warn(f"worldflux.{name} is of WorldFlux 0.1.1. Use '{place}' instead.", DeprecationWarning, stacklevel=3)
    return value


def _of_family(family: str, attribute: str) -> Any:
    registry = importlib.import_module("worldflux.core.registry").WorldModelRegistry
    try:
        return getattr(registry.model(family), attribute)
    except ValueError as error:  # it says which package has the family
        raise ImportError(str(error)) from error


def _front_door(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(importlib.import_module("worldflux.factory"), name)
    return found


def set_seed(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch; models and environments here have seeds of their own."""
    random.seed(seed)
    importlib.import_module("numpy").random.seed(seed)
    importlib.import_module("torch").manual_seed(seed)


# name -> what to use today, and how to make what stands for it
_MADE: dict[str, tuple[str, Callable[[], Any]]] = {
    "AutoConfig": ("worldflux.get_config", lambda: SimpleNamespace(from_pretrained=_front_door("get_config"))),
    "AutoWorldModel": (
        "worldflux.create_world_model",
        lambda: SimpleNamespace(from_pretrained=_front_door("create_world_model")),
    ),
    "MODEL_ALIASES": (
        "worldflux.plugins.get_kernel().catalog.aliases",
        lambda: dict(importlib.import_module("worldflux.plugins").get_kernel().catalog.aliases),
    ),
    "MODEL_CATALOG": (
        "worldflux.list_models(verbose=True, surface='all')",
        lambda: _front_door("list_models")(verbose=True, surface="all"),
    ),
    "set_seed": ("torch.manual_seed", lambda: set_seed),
}
