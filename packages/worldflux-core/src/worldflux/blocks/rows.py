"""Rows of experience as a model reads them: what was arrived in, and what led there.

A row of a batch holds what was seen and paid on arriving, and the action done next (docs/time.md); a model predicts
the former from the action of the row before. Letters: B sequences, T rows, R of them arrived in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from worldflux.core.batch import Batch
from worldflux.core.errors import ValidationError


@dataclass(frozen=True)
class Arrivals:
    """Rows ``[B, R, ...]`` that were arrived in, each with the action that led there."""

    obs: dict[str, Tensor]  # [B, R, ...]
    action: Tensor  # [B, R, A] of the row before; where ``is_first`` it is another episode's
    reward: Tensor  # [B, R] float32; NaN where there are none and none are asked for
    is_first: Tensor  # [B, R] bool: nothing led here but the start of an episode
    is_last: Tensor  # [B, R] bool, as is the next
    is_terminal: Tensor
    mask: Tensor | None  # [B, R] float32, 1 where the row counts; None where all do

    def map(self, function: Callable[[Tensor], Tensor]) -> Arrivals:
        """The same with every tensor passed through ``function``: time first, the last rows, rows in one axis, …"""
        fields = {name: value for name, value in vars(self).items() if name not in ("obs", "mask")}
        return Arrivals(
            obs={name: function(value) for name, value in self.obs.items()},
            mask=None if self.mask is None else function(self.mask),
            **{name: function(value) for name, value in fields.items()},
        )


def arrivals(batch: Batch, *, from_nothing: bool = False, rewards: bool = True) -> Arrivals:
    """Return the rows of a checked batch that were arrived in: all ``R = T - 1`` but the first, which leads to them.

    ``from_nothing`` counts the first, too (``R = T``): as the first of an episode, by an action of zeros. Without
    ``rewards`` a batch may have none: whoever learns from them then learns NaN. Raises ValidationError for a batch
    without rewards that are asked for, or of rows that lead nowhere.
    """
    actions, paid, start = _required(batch, 1 if from_nothing else 2), batch.rewards, 0 if from_nothing else 1
    if paid is None:
        if rewards:
            raise ValidationError("the batch has no rewards")
        paid = torch.full_like(actions[..., 0], math.nan)

    def flag(value: Tensor | None) -> Tensor:
        return torch.zeros_like(paid[:, start:], dtype=torch.bool) if value is None else value[:, start:] > 0

    action, is_first = actions[:, :-1], flag(batch.is_first)
    if from_nothing:
        action = torch.cat([torch.zeros_like(actions[:, :1]), action], 1)
        is_first[:, 0] = True
    return Arrivals(
        obs={name: value[:, start:] for name, value in batch.obs.items()},
        action=action,
        reward=paid[:, start:].float(),
        is_first=is_first,
        is_last=flag(batch.is_last),
        is_terminal=flag(batch.is_terminal),
        mask=None if batch.mask is None else batch.mask[:, start:].float(),
    )


def valid_steps(batch: Batch, *, unbroken: bool = False) -> Tensor:
    """Return 1 for each step ``[B, T - 1]`` that stays in its episode, from a row that counts to a row that counts.

    ``unbroken`` takes the steps behind one that leaves the episode out, too: for what is predicted through all steps
    from the first row. Raises ValidationError for rows of one each.
    """
    valid = torch.ones_like(_required(batch, 2)[:, 1:, 0], dtype=torch.float32)
    if batch.is_first is not None:
        left = batch.is_first[:, 1:].float()
        valid = valid - (left.cummax(1).values if unbroken else left)
    if batch.mask is not None:
        valid = valid * (batch.mask[:, 1:].float() * batch.mask[:, :-1].float())
    return valid


def _required(batch: Batch, rows: int) -> Tensor:
    """The actions ``[B, T, A]`` of a batch of at least so many rows."""
    if batch.actions is None:
        raise ValidationError("the batch has no actions")
    if batch.actions.shape[1] < rows:
        got = batch.actions.shape[1]
        raise ValidationError(f"a training sequence needs at least {rows} rows (the first only leads on), got {got}")
    return batch.actions


def forget(tensors: Mapping[str, Tensor], is_first: Tensor) -> dict[str, Tensor]:
    """Tensors ``[N, ...]`` with zeros in the rows where ``is_first [N]``: nothing is remembered of another episode."""
    return {
        name: value.masked_fill(is_first.reshape(-1, *[1] * (value.ndim - 1)), 0) for name, value in tensors.items()
    }
