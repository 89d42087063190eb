"""Saying which number stopped being one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.output import LossOutput


def diagnose(*, step: int, out: LossOutput, batch: Batch, parameters: Iterable[tuple[str, Tensor]]) -> dict[str, Any]:
    """Return what was not finite at a step: in the batch, the parameters, the losses, the gradients.

    ``first`` names the first loss component that is not finite, else "loss", else "gradients".
    """
    named, losses = list(parameters), {**out.components, "loss": out.loss}
    broken = [name for name, value in losses.items() if not _finite(value)]
    return {
        "step": step,
        "first": broken[0] if broken else "gradients",
        "batch": {name: _where(value) for name, value in batch.tensors() if not _finite(value)},
        "parameters": [name for name, value in named if not _finite(value)],
        "losses": {name: str(float(value.detach().float().mean())) for name, value in losses.items()},
        "gradients": [name for name, value in named if value.grad is not None and not _finite(value.grad)],
    }


def explain(report: Mapping[str, Any]) -> str:
    """Return one sentence for a person: what broke first, and what that points to."""
    first, step = report["first"], report["step"]
    what = "the gradients are" if first == "gradients" else "the loss is" if first == "loss" else f"loss {first!r} is"
    if report["batch"]:
        name, where = next(iter(report["batch"].items()))
        cause = f"the batch's {name} is not finite at {where}: repair the data"
    elif report["parameters"]:
        cause = f"parameter {report['parameters'][0]!r} was not finite before: resume from an earlier checkpoint"
    else:
        cause = "the batch and the parameters are finite: try a lower learning_rate or grad_clip"
    return f"{what} not finite at step {step}; {cause}"


def _finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value).all())


def _where(value: Tensor) -> list[int]:
    return torch.nonzero(~torch.isfinite(value))[0].tolist()  # type: ignore[no-any-return]


def out_of_memory(error: Exception) -> str:
    """What to do if memory ran out."""
    if isinstance(error, torch.OutOfMemoryError):
        return " Lower batch_size and raise gradient_accumulation_steps by the same factor: the result stays the same."
    return ""
