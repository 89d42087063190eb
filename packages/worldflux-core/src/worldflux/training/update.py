"""One update: the steps a model makes of its batches, each moving the parameters it names before the next is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..core.batch import Batch
from ..core.errors import TrainingError, did_you_mean
from ..core.model import WorldModel
from ..core.output import LossOutput
from .config import TrainingConfig
from .meter import Meter
from .optim import clip_gradients

Groups = Mapping[str, list[nn.Parameter]]


@dataclass(frozen=True)
class Step:
    """One optimizer step: the loss of each micro-batch, and the gradient's norm before clipping."""

    losses: list[tuple[Batch, LossOutput]]
    norm: Tensor


def groups_of(model: WorldModel) -> Groups:
    """The parameters of each group that a step may name."""
    found: dict[str, list[nn.Parameter]] = {}
    for group in model.parameter_groups():
        if "group" in group:
            found.setdefault(group["group"], []).extend(p for p in group["params"] if p.requires_grad)
    return found


def make_update(
    model: WorldModel,
    optimizer: torch.optim.Optimizer,
    sample: Callable[[], Batch],
    *,
    config: TrainingConfig,
    groups: Groups,
    ready: Callable[[Step], None],
) -> list[Step]:
    """Take every step of one update and return them.

    Each step adds up the gradients of ``gradient_accumulation_steps`` micro-batches, whose ``model.steps`` go on side
    by side, in the parameters of its group alone: all others have none, so no optimizer touches them. ``ready`` sees a
    step before it is taken, and may raise. Raises TrainingError for a step that names no group, or is not made of every
    micro-batch.
    """
    count, device = config.gradient_accumulation_steps, next(model.parameters()).device.type
    running: list[tuple[Batch, Iterator[LossOutput]]] = []
    made: list[Step] = []
    while True:
        losses: list[tuple[Batch, LossOutput]] = []
        for number in range(count):
            if number == len(running):  # the first step: a batch is read when its turn comes
                batch = sample()
                running.append((batch, iter(model.steps(batch))))
            batch, steps = running[number]
            with torch.autocast(device, dtype=torch.bfloat16, enabled=config.mixed_precision):
                out = next(steps, None)
            if out is None:
                continue
            if not isinstance(out, LossOutput):
                raise TrainingError(f"loss(batch) returned a {type(out).__name__}, expected a LossOutput(loss)")
            if not losses:
                optimizer.zero_grad(set_to_none=True)
            _backward(out, groups, count)
            losses.append((batch, out))
        if not losses and made:
            return made
        if len(losses) != count:
            raise TrainingError(
                f"step {len(made) + 1} of an update was made of {len(losses)} of {count} micro-batches: steps(batch) "
                "must yield as many losses for each batch, and at least one"
            )
        made.append(Step(losses, clip_gradients(optimizer, config.grad_clip)))
        ready(made[-1])
        optimizer.step()


def record_update(steps: Sequence[Step], rate: float, *, source: Any, meter: Meter) -> None:
    """Give latents back to the source, and what there is to log to the meter: of all steps of a batch together."""
    kept = getattr(source, "latent_names", None)
    for outs in zip(*(step.losses for step in steps)):
        logged: dict[str, Any] = {"loss": torch.stack([out.loss.detach() for _, out in outs]).sum()}
        for batch, out in outs:
            latents = {name: v.detach() for name, v in (out.latents or {}).items() if kept is None or name in kept}
            if latents and hasattr(source, "update"):
                source.update(batch, latents)
            logged |= {f"loss/{name}": value for name, value in out.components.items()} | dict(out.metrics)
        meter.add(logged)
    norms = {f"grad_norm/{group}": step.norm for step in steps if (group := step.losses[0][1].group)}
    meter.add({"grad_norm": torch.stack([step.norm for step in steps]).norm(), **norms, "lr": rate})


def _backward(out: LossOutput, groups: Groups, count: int) -> None:
    loss = out.loss / count if count > 1 else out.loss
    if out.group is None:
        loss.backward()
        return
    if out.group not in groups:
        raise TrainingError(
            f"a step names the group {out.group!r}, parameter_groups() has {sorted(groups)}."
            f"{did_you_mean(out.group, groups)}"
        )
    loss.backward(inputs=groups[out.group])
