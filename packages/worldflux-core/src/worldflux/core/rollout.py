"""Imagining what a given sequence of actions leads to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .payloads import ConditionPayload
from .state import State, stack_states
from .trajectory import Trajectory


class OpenLoop:
    """The rollout of every family: transition by transition; then only what arriving there pays is decoded."""

    def rollout_open_loop(
        self,
        model: Any,
        initial_state: State,
        action_sequence: Tensor,
        conditions: ConditionPayload | None = None,
        deterministic: bool = False,
    ) -> Trajectory:
        """States ``H + 1`` of a WorldModel under actions ``[H, B, A]``, and the rewards and continues ``[H, B]``."""
        states = [initial_state]
        for action in action_sequence:
            states.append(model.imagined(states[-1], action, conditions, deterministic))
        paid: dict[str, Tensor] = {}
        if len(states) > 1 and (model.supports_reward or model.supports_continue):
            paid = model.arrival(stack_states(states[1:]), conditions)
        empty = torch.zeros(0, initial_state.batch_size, device=initial_state.device) if len(states) == 1 else None
        return Trajectory(
            states,
            action_sequence,
            rewards=paid.get("reward", empty) if model.supports_reward else None,
            continues=paid.get("continue", empty) if model.supports_continue else None,
            state_spec=model.io_contract().state_spec,
        )
