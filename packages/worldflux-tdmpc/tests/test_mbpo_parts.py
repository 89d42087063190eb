"""MBPO with parts that are another's."""

from __future__ import annotations

import pytest
import torch

import worldflux
from worldflux.core.state import State
from worldflux.testing.echo import EchoWorld
from worldflux.testing.learner import Learner


class Drift(torch.nn.Module):
    """Dynamics without an ensemble."""

    def __init__(self, config):
        super().__init__()
        self.linear = torch.nn.Linear(config.obs_size + config.actions.dim, 1 + config.obs_size)

    def transition(self, state, conditioned, deterministic=False):
        outputs = self.linear(torch.cat([state["obs"], conditioned["action"]], -1))
        return State({"obs": state["obs"] + outputs[:, 1:], "reward": outputs[:, 0]})


class Louder(torch.nn.Module):
    """A decoder that has to learn its scale."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.2))

    def decode(self, state, conditions=None):
        return {"obs": state["obs"], "reward": self.scale * state["reward"], "continue": state["continue"]}


@pytest.mark.parametrize(("slot", "part", "name"), [("dynamics_model", Drift, "model"), ("decoder", Louder, "decoder")])
def test_a_part_of_another_is_learnt_with(slot, part, name):
    model = worldflux.create_world_model("mbpo:ci", obs_shape=(6,), action_dim=3, component_overrides={slot: part})
    learner, world = Learner(model), EchoWorld(model.config.modalities, model.config.actions)
    losses = [float(learner.step(world.batch(16, 4, seed=0)).components[name]) for _ in range(60)]
    assert losses[-1] < 0.8 * losses[0]
