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
    batch, losses = world.batch(16, 4, seed=0), []
    for _ in range(60):
        losses.append(float(model.loss(batch).components[name]))
        learner.step(batch)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    "slot", ["observation_encoder", "action_conditioner", "dynamics_model", "decoder", "termination"]
)
@pytest.mark.parametrize("how", ["wrapped", "subclass", "class"])
def test_a_part_that_is_wrapped_or_derived_from_learns_as_the_original(slot, how, through):
    plain, other = (worldflux.create_world_model("mbpo:ci", obs_shape=(6,), action_dim=3).train() for _ in "ab")
    part = getattr(other, slot)
    derived = type("Derived", (type(part),), {})
    if how == "subclass":
        part.__class__ = derived
    other.set_component(slot, {"wrapped": through(part), "subclass": part, "class": derived}[how])
    batch = EchoWorld(plain.config.modalities, plain.config.actions).batch(16, 4, seed=0)
    for _ in range(2):  # what the parts remember of the first counts in the second
        ours, theirs = plain.loss(batch), other.loss(batch)
        assert torch.equal(ours.loss, theirs.loss)
        assert set(ours.components) == set(theirs.components)


def test_a_decoder_is_taught_everything_it_predicts():
    class Shifted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.shift = torch.nn.Parameter(torch.zeros(6))

        def decode(self, state, conditions=None):
            return {"obs": state["obs"] + self.shift, "reward": state["reward"], "continue": state["continue"]}

    model = worldflux.create_world_model(
        "mbpo:ci", obs_shape=(6,), action_dim=3, component_overrides={"decoder": Shifted}
    ).train()
    with torch.no_grad():
        model.decoder.shift.fill_(0.5)
    model.loss(EchoWorld(model.config.modalities, model.config.actions).batch(16, 4, seed=0)).loss.backward()
    assert (model.decoder.shift.grad != 0).all()
