"""Optimizers from options, the learning rate of a step, and gradient clipping."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core.model import WorldModel
from .config import TrainingConfig

_OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def build_optimizer(model: WorldModel, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return the model's own optimizer, or else the configured one over its parameter groups.

    A group's learning rate is in proportion to the model config's, so that ``learning_rate`` moves all groups together.
    """
    optimizer = model.configure_optimizer(config)
    if optimizer is None:
        groups = [dict(group) for group in model.parameter_groups()]
        for group in groups:
            if "lr" in group and hasattr(model, "config"):
                group["lr"] = group["lr"] / model.config.learning_rate * config.learning_rate
        kind = _OPTIMIZERS[config.optimizer]
        optimizer = kind(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
    return optimizer


def with_initial_rates(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Remember each group's learning rate as ``initial_lr``, of which later rates are parts."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", float(group["lr"]))
    return optimizer


def learning_rate_scale(step: int, config: TrainingConfig) -> float:
    """Return the factor on every group's learning rate at the update after ``step`` finished ones.

    During warmup it is ``step / warmup_steps``: the first update changes nothing, as in the official DreamerV3.
    """
    if step < config.warmup_steps:
        return step / config.warmup_steps
    span = config.total_steps - config.warmup_steps
    done = min(1.0, (step - config.warmup_steps) / span) if span > 0 else 1.0
    if config.scheduler == "linear":
        return 1.0 - done
    if config.scheduler == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    return 1.0


def scale_learning_rates(optimizer: torch.optim.Optimizer, scale: float) -> None:
    """Set each group's learning rate to ``scale`` times the one it started with."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(group["initial_lr"] * scale)
        else:
            group["lr"] = group["initial_lr"] * scale


def clip_gradients(optimizer: torch.optim.Optimizer, limit: float) -> Tensor:
    """Clip gradients to a global norm of ``limit`` (0: off) and return their norm before clipping.

    A group with its own ``grad_clip`` is clipped alone, to that; the others share one norm.
    """
    shared: list[Tensor] = []
    norms: list[Tensor] = []
    for group in optimizer.param_groups:
        grads = [p.grad for p in group["params"] if p.grad is not None]
        if group.get("grad_clip") is None:
            shared += grads
        else:
            norms.append(_clip(grads, group["grad_clip"]))
    norms.append(_clip(shared, limit))
    return torch.stack([norm.to(norms[-1].device) for norm in norms]).norm()


def _clip(grads: list[Tensor], limit: float) -> Tensor:
    if not grads:
        return torch.zeros(())
    norm = torch.nn.utils.get_total_norm(grads)
    if limit > 0:
        scale = (limit / (norm + 1e-6)).clamp(max=1.0)
        scale = torch.where(torch.isfinite(norm), scale, 1.0)  # what is broken stays to be seen
        torch._foreach_mul_(grads, scale.to(grads[0].device))
    return norm
