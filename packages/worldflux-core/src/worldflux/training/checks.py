"""What a trainer is given, checked before anything is done with it."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from worldflux.words.counts import counted

from ..core.errors import ConfigurationError
from ..files import MAX_STATE, read_json
from .config import TrainingConfig


def check_config(config: Any) -> None:
    """Raise ConfigurationError unless this is None or a TrainingConfig."""
    if not isinstance(config, (TrainingConfig, type(None))):
        raise ConfigurationError(f"config is a {type(config).__name__}, expected a TrainingConfig(total_steps=…)")


def check_arguments(model: Any, config: Any, callbacks: Any, optimizer: Any, scheduler: Any) -> None:
    """Raise ConfigurationError for arguments of another kind than the trainer takes."""
    if not isinstance(model, nn.Module) or not callable(getattr(model, "loss", None)):
        what = "expected a world model (worldflux.create_world_model makes one) or an nn.Module with loss(batch)"
        raise ConfigurationError(f"a trainer takes a model, got {reprlib.repr(model)}: {what}")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigurationError(f"{type(model).__name__} has no parameters to train")
    check_config(config)
    options: dict[str, tuple[Any, type | tuple[type, ...], str]] = {
        "callbacks": (callbacks, (list, tuple), "a list of callbacks"),
        "optimizer": (optimizer, torch.optim.Optimizer, "a torch.optim.Optimizer over the model's parameters"),
        "scheduler": (scheduler, torch.optim.lr_scheduler.LRScheduler, "a scheduler of torch.optim.lr_scheduler"),
    }
    for name, (value, kind, what) in options.items():
        if value is not None and not isinstance(value, kind):
            raise ConfigurationError(f"{name} is a {type(value).__name__}, expected {what}, not {value!r}")
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise ConfigurationError("ReduceLROnPlateau waits for a metric, but schedulers are stepped after each update")


def check_steps(num_steps: Any) -> None:
    """Raise ConfigurationError unless this is None or a number of updates."""
    if num_steps is not None and (isinstance(num_steps, bool) or not isinstance(num_steps, int) or num_steps < 0):
        raise ConfigurationError(f"num_steps is {num_steps!r}, expected a whole number of updates")


def check_going_on(found: Path | None, target: int) -> None:
    """Raise ConfigurationError if a whole checkpoint to go on from is beyond where the run is to end."""
    step = 0 if found is None else int(read_json(found / "manifest.json", limit=MAX_STATE)["step"])
    if step > target:
        raise ConfigurationError(
            f"{found} was made after {counted(step, 'update')}, and it cannot go on to {target}: ask for more than "
            "were made"
        )
