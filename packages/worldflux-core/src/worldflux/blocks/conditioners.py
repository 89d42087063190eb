"""How dynamics come to know the action."""

from __future__ import annotations

import torch
from torch import Tensor

from worldflux.core.payloads import ConditionPayload
from worldflux.core.spec import ActionSpec
from worldflux.core.state import State


class PlainActions:
    """The slot ``action_conditioner``: the action as it is."""

    def condition(self, state: State, action: Tensor, conditions: ConditionPayload | None = None) -> dict[str, Tensor]:
        """Actions ``[..., A]`` to ``{"action": [..., A]}``."""
        return {"action": action}


class KnownActions:
    """The slot ``action_conditioner``: the action, of which parts that are missing (any entry -inf) count as zeros."""

    def __init__(self, actions: ActionSpec) -> None:
        self.sizes = [part.dim for part in actions.leaves()]

    def condition(self, state: State, action: Tensor, conditions: ConditionPayload | None = None) -> dict[str, Tensor]:
        """Actions ``[..., A]`` to ``{"action": [..., A]}``."""
        parts = action.split(self.sizes, -1)
        kept = [part.masked_fill(part.isneginf().any(-1, keepdim=True), 0.0) for part in parts]
        return {"action": torch.cat(kept, -1)}


def action_in(conditioned: dict[str, Tensor], *, like: Tensor, size: int) -> Tensor:
    """The action ``[..., size]`` in what a conditioner read; if there is none, zeros for latents ``like [..., D]``."""
    action = conditioned.get("action")
    return like.new_zeros(*like.shape[:-1], size) if action is None else action
