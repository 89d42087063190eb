"""A model whose policy answers in a way that shows what it was given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from worldflux.core.config import WorldModelConfig
from worldflux.core.model import WorldModel
from worldflux.core.output import LossOutput


class Watching:
    """Counts the steps of each episode and does ``answer [A]``; keeps what it was shown."""

    latent_spec = {}

    def __init__(self, model, generator=None):
        self.model, self.generator, self.seen, self.answer = model, generator, [], None

    def initial(self, batch_size):
        return {"steps": torch.zeros(batch_size)}

    def __call__(self, obs, carry, *, is_first, explore):
        obs = self.model.observations(obs)
        steps = torch.where(is_first, 1.0, carry["steps"] + 1)
        self.seen.append({"obs": obs, "steps": steps.tolist(), "training": self.model.training, "explore": explore})
        size = self.model.config.actions.dim
        answer = torch.rand(size, generator=self.generator) if self.answer is None else torch.as_tensor(self.answer)
        return answer.float().expand(len(is_first), size), {"steps": steps}

    def latents(self, carry):
        return {}


class Actor(WorldModel):
    capabilities = frozenset({"policy"})

    def __init__(self, config):
        super().__init__(config)
        self.weight = nn.Parameter(torch.zeros(1))

    def loss(self, batch):
        return LossOutput(self.weight.sum(), {})

    def policy(self, *, generator=None):
        return Watching(self, generator)


@pytest.fixture
def actor():
    """Makes a model that observes and acts as it is told."""
    return lambda **options: Actor(WorldModelConfig(**options))
