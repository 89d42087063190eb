"""Imagining a given sequence of actions."""

from __future__ import annotations

import torch
from torch import Tensor

from worldflux.core.model import WorldModel
from worldflux.core.payloads import ConditionPayload
from worldflux.core.state import State
from worldflux.core.trajectory import Trajectory

from .decoder import Decoder


class OpenLoop:
    """Transition by transition; rewards are decoded for all steps at once, observations not at all."""

    def rollout_open_loop(
        self,
        model: WorldModel,
        initial_state: State,
        action_sequence: Tensor,
        conditions: ConditionPayload | None = None,
        deterministic: bool = False,
    ) -> Trajectory:
        """States ``H + 1`` and rewards ``[H, B]`` under actions ``[H, B, A]``."""
        states = [initial_state]
        for action in action_sequence:
            states.append(model.transition(states[-1], action, conditions, deterministic))
        rewards = initial_state["deter"].new_zeros(0, initial_state.batch_size)
        if len(states) > 1:
            rewards = arrival(model, State({n: torch.stack([s[n] for s in states[1:]]) for n in states[0].tensors}))
        return Trajectory(states, action_sequence, rewards, state_spec=model.io_contract().state_spec)


def arrival(model: WorldModel, state: State) -> Tensor:
    """Reward ``[H, B]`` of arriving in states ``[H, B, ...]``, by whatever decoder is in place."""
    decoder = model.component("decoder")
    if type(decoder) is Decoder:
        return decoder.reward(state)
    flat = state.map(lambda value: value.flatten(0, 1))
    return model.decode(flat).preds["reward"].reshape(state["deter"].shape[:2])
