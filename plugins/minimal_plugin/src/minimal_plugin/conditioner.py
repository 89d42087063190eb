"""A component for a slot that every family has."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from worldflux import ConditionPayload, State


class ZeroActionConditioner:
    """Takes the action's effect away: an empty dict is what the contract calls "no influence"."""

    def condition(self, state: State, action: Tensor, conditions: ConditionPayload | None = None) -> dict[str, Tensor]:
        """Nothing, whatever the action ``[B, A]``."""
        return {}
