"""Training a plain ``nn.Module``: any that has ``loss(batch)``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import nn

from ..core.batch import Batch
from ..core.errors import ConfigurationError
from ..core.model import WorldModel
from ..core.output import LossOutput
from ..recipe import Recipe


def asked(model: Any) -> Any:
    """What the trainer asks of a model: a world model itself, or a module with answers for what it lacks."""
    return model if isinstance(model, WorldModel) else AnyModule(model)


class AnyModule:
    """A module, and for each hook of a ``WorldModel`` that it does not have what doing without it means."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        module = vars(self).get("_module")  # it is not there yet while this is copied or unpickled
        if module is not None and not name.startswith("__"):
            # A hook is a method of the class: an attribute, or a part, that is called so is none.
            if name in _WITHOUT and not callable(getattr(type(module), name, None)):
                return partial(_WITHOUT[name], module)
            if hasattr(module, name):
                return getattr(module, name)
            if name == "context_rows":
                return 0
        raise AttributeError(f"a {type(module).__name__} has no {name!r}, nor can it be done without")


def _steps(module: Any, batch: Batch) -> Iterator[LossOutput]:
    yield module.loss(batch)


def _groups(module: nn.Module) -> list[dict[str, Any]]:
    return [{"params": [p for p in module.parameters() if p.requires_grad]}]


def _save(module: nn.Module, path: Any) -> None:
    raise ConfigurationError(f"a {type(module).__name__} is no WorldModel, which alone is saved by name")


def _nothing(module: nn.Module, *given: Any) -> None:
    """What has no generator of its own has nothing to seed or to restore, and no update to follow."""


_WITHOUT: dict[str, Callable[..., Any]] = {
    "configure_optimizer": _nothing,
    "generator": _nothing,
    "on_after_optimizer_step": _nothing,
    "parameter_groups": _groups,
    "recipe": lambda module: Recipe(),
    "rng_state": lambda module: {},
    "save_pretrained": _save,
    "seed": _nothing,
    "set_rng_state": _nothing,
    "steps": _steps,
}
