"""Saying which number stopped being one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.errors import CheckpointError, TrainingError
from ..core.output import LossOutput
from ..files import write_json
from .update import Step


def refuse_non_finite(
    step: Step, *, number: int, parameters: Iterable[tuple[str, Tensor]], directory: Path, kept: Path | None
) -> None:
    """Raise TrainingError before the optimizer spreads a number that is none; the only place that waits for the device.

    What was wrong goes to ``diagnosis.json`` in the directory; ``kept`` is the last checkpoint.
    """
    finite = torch.isfinite(step.norm) & torch.stack([torch.isfinite(out.loss).all() for _, out in step.losses]).all()
    if bool(finite):
        return
    broken = (pair for pair in step.losses if not torch.isfinite(pair[1].loss).all())
    batch, out = next(broken, step.losses[-1])
    report = diagnose(step=number, out=out, batch=batch, parameters=parameters)
    path = directory / "diagnosis.json"
    try:
        write_json(path, report)
        details = f"Details are in {path}"
    except CheckpointError as error:  # it must not hide what is wrong
        details = str(error)
    last = kept or "none, as none was made yet"
    raise TrainingError(f"{explain(report)}. {details}; the last checkpoint is {last}")


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
