"""How a caller replaces a part of a model: by a registered id, a class or factory, or an instance."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from worldflux.core.components import canonical_slot
from worldflux.core.config import WorldModelConfig
from worldflux.core.errors import ConfigurationError
from worldflux.core.events import announce
from worldflux.core.model import WorldModel
from worldflux.core.registry import WorldModelRegistry


def put(model: WorldModel, slot: str, value: Any) -> None:
    """What ``WorldModel.set_component`` does, and raises."""
    name = canonical_slot(slot, model.slots)
    like = next(model.parameters(), torch.empty(0))
    with torch.random.fork_rng(devices=[]):  # what a part's own layers draw is drawn from nobody's generator
        torch.default_generator.manual_seed(model.config.seed)
        part, component_id, made = build_component(name, value, model.config, model.slots)
        if hasattr(model, name):
            delattr(model, name)  # a module may be replaced by a plain object, which nn.Module would refuse
        setattr(model, name, part)
        model.component_ids[name] = component_id
        if isinstance(part, nn.Module) and made:
            others = {key: v.clone() for key, v in model.state_dict().items() if not key.startswith(f"{name}.")}
            model.initialise()
            model.load_state_dict(others, strict=False)
            part.to(like)
    if isinstance(part, nn.Module):
        part.to(like.device).train(model.training)
    announce("component_set", model, slot=name, part=part)


def build_component(
    slot: str, value: Any, config: WorldModelConfig, slots: Mapping[str, str]
) -> tuple[Any, str | None, bool]:
    """Return the component for ``slot``, its registered id if it was named by one, and whether it was made here.

    ``value`` is a registered id, a class or factory (called with the model's config if it requires an argument), or
    an instance. Raises ConfigurationError if the id is unknown, of another slot, or the method is missing.
    """
    name = None
    if isinstance(value, str):
        name, entry = value, WorldModelRegistry.component(value)
        if canonical_slot(entry.spec.component_type, slots) != slot:
            raise ConfigurationError(f"component {value!r} is for slot {entry.spec.component_type!r}, not {slot!r}")
        value = entry.factory
    is_instance = hasattr(value, slots[slot]) or isinstance(value, nn.Module)  # a module is callable, but no factory
    made = inspect.isclass(value) or (callable(value) and not is_instance)
    if made:
        accepted = inspect.signature(value).parameters.values()
        required = [p for p in accepted if p.kind <= p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
        value = value(config) if required else value()
    if not callable(getattr(value, slots[slot], None)):
        raise ConfigurationError(
            f"component for {slot!r} must have a method {slots[slot]!r}, {type(value).__name__} has none"
        )
    return value, name, made
