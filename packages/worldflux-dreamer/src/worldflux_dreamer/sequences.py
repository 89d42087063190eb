"""A training batch as the model reads it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from worldflux.core.batch import Batch
from worldflux.core.errors import ShapeMismatchError, ValidationError
from worldflux.core.state import State

from .config import DreamerV3Config
from .distributions import one_hot


@dataclass
class Sequence:
    """Rows ``[B, T, ...]`` with the action that led to each, and the state before the first."""

    obs: dict[str, Tensor]
    action: Tensor  # [B, T, A], done before arriving at the row
    is_first: Tensor  # [B, T] bool, as are the next two
    is_last: Tensor
    is_terminal: Tensor
    reward: Tensor  # [B, T]
    carry: State
    weight: Tensor | None  # [B, T], mean one; None where no row is masked

    def last(self, rows: int) -> Sequence:
        """The last ``rows`` rows; the carry stays that of the whole sequence."""
        cut = {
            f.name: getattr(self, f.name)[:, -rows:] for f in fields(self) if f.name not in ("obs", "carry", "weight")
        }
        obs = {name: value[:, -rows:] for name, value in self.obs.items()}
        return Sequence(
            obs=obs, carry=self.carry, weight=None if self.weight is None else self.weight[:, -rows:], **cut
        )


def read_sequence(batch: Batch, *, obs: dict[str, Tensor], actions: Tensor, config: DreamerV3Config) -> Sequence:
    """Take the first row of a batch ``[B, T + 1, ...]`` as the source of the state and of the first action.

    Its latents are ``batch.context`` (``deter [B, T + 1, D]``, ``stoch`` as classes ``[B, T + 1, S]`` or one-hot), or
    zeros. Raises ValidationError for a batch of one row, ShapeMismatchError for latents of another size.
    """
    size, rows = actions.shape[:2]
    if rows < 2:
        raise ValidationError(f"a training sequence needs at least 2 rows (the first only starts it), got {rows}")
    device = actions.device

    def flag(value: Tensor | None) -> Tensor:
        return torch.zeros(size, rows - 1, dtype=torch.bool, device=device) if value is None else value[:, 1:] > 0

    if batch.rewards is None:
        raise ValidationError("the batch has no rewards")
    weight = None
    if batch.mask is not None:
        weight = batch.mask[:, 1:].float()
        weight = weight / weight.mean().clamp(min=1e-8)
    return Sequence(
        obs={name: value[:, 1:] for name, value in obs.items()},
        action=actions[:, :-1],
        is_first=flag(batch.is_first),
        is_last=flag(batch.is_last),
        is_terminal=flag(batch.is_terminal),
        reward=batch.rewards[:, 1:].float(),
        carry=_carry(batch, config, size, rows, device),
        weight=weight,
    )


def _carry(batch: Batch, config: DreamerV3Config, size: int, rows: int, device: torch.device) -> State:
    deter_shape, latents = (config.deter_dim,), (config.stoch, config.classes)
    if batch.context is None:
        return State({
            "deter": torch.zeros(size, *deter_shape, device=device),
            "stoch": torch.zeros(size, *latents, device=device),
        })  # fmt: skip
    missing = sorted({"deter", "stoch"} - set(batch.context))
    if missing:
        raise ValidationError(f"batch.context lacks {missing}: give both latents, or no context for a start from zeros")
    deter, stoch = batch.context["deter"], batch.context["stoch"]
    if tuple(deter.shape[2:]) != deter_shape:
        raise ShapeMismatchError("context 'deter'", expected=(size, rows, *deter_shape), got=tuple(deter.shape))
    if tuple(stoch.shape[2:]) not in (latents, latents[:1]):
        raise ShapeMismatchError("context 'stoch'", expected=(size, rows, *latents[:1]), got=tuple(stoch.shape))
    first = stoch[:, 0]
    stoch = first.float() if first.ndim == 3 else one_hot(first.long(), config.classes)
    return State({"deter": deter[:, 0].float(), "stoch": stoch})
