"""Imagining a given sequence of actions."""

from __future__ import annotations

import torch
from torch import Tensor

from worldflux.core.model import WorldModel
from worldflux.core.payloads import ConditionPayload
from worldflux.core.state import State
from worldflux.core.trajectory import Trajectory

from .decoder import Decoder, features


class OpenLoop:
    """Transition by transition; rewards and continues are decoded for all steps at once, images not at all."""

    def rollout_open_loop(
        self,
        model: WorldModel,
        initial_state: State,
        action_sequence: Tensor,
        conditions: ConditionPayload | None = None,
        deterministic: bool = False,
    ) -> Trajectory:
        """States ``H + 1``, rewards and continues ``[H, B]`` under actions ``[H, B, A]``."""
        states = [initial_state]
        for action in action_sequence:
            states.append(model.transition(states[-1], action, conditions, deterministic))
        if len(states) == 1:
            empty = initial_state["deter"].new_zeros(0, initial_state.batch_size)
            rewards, continues = empty, empty
        else:
            rewards, continues = arrival(
                model, State({n: torch.stack([s[n] for s in states[1:]]) for n in initial_state.tensors})
            )
        return Trajectory(states, action_sequence, rewards, None, continues, model.io_contract().state_spec)


def arrival(model: WorldModel, state: State) -> tuple[Tensor, Tensor]:
    """Reward and continue probability ``[...]`` of arriving in states ``[..., D]``, by whatever decoder is in place."""
    decoder, lead = model.component("decoder"), state["deter"].shape[:-1]
    if type(decoder) is Decoder:
        return decoder.arrival(features(state["deter"], state["stoch"]))
    flat = State({name: value.reshape(-1, *value.shape[len(lead) :]) for name, value in state.tensors.items()})
    preds = model.decode(flat).preds
    return preds["reward"].reshape(lead), preds["continue"].reshape(lead)
