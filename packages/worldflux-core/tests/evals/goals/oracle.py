"""World models that know the point goal: the latent is the true state, and what an action does is known."""

from __future__ import annotations

import torch
from torch import nn

from worldflux.core.config import WorldModelConfig
from worldflux.core.model import WorldModel
from worldflux.core.spec import StateSpec, vector
from worldflux.core.state import State

SPEED = 0.06  # of the point goal
OPTIONS = {"obs": "state"}


class Oracle(WorldModel):
    """Its latent is the state, times ``weight``; an action is ``frame_skip`` of the environment's."""

    def __init__(self, *, frame_skip: int = 1, knows: float = 1.0) -> None:
        modalities = {"state": {"shape": (2,), "kind": "vector"}}
        super().__init__(WorldModelConfig(observation_modalities=modalities, action_dim=2 * frame_skip))
        self.weight, self.knows = nn.Parameter(torch.ones(())), knows

    def state_spec(self):
        return StateSpec({"latent": vector(2), "age": vector()})

    def encode(self, obs, deterministic=False):
        latent = self.observations(obs)["state"] * self.weight
        return State({"latent": latent * self.knows, "age": latent.new_zeros(len(latent))})

    def transition(self, state, action, conditions=None, deterministic=False):
        latent = state["latent"]
        for step in self.actions(action).unflatten(-1, (-1, 2)).unbind(-2):
            latent = (latent + SPEED * step).clamp(0.1, 0.9)
        return State({"latent": latent, "age": state["age"] + 1})

    def loss(self, batch):
        raise AssertionError("nothing is learnt here")
