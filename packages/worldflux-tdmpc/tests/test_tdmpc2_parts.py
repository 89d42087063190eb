"""TD-MPC2 with parts that are another's: what they predict is learnt with, and a part's own losses stay its own."""

from __future__ import annotations

import pytest
import torch

from worldflux import ConfigurationError, State


@pytest.mark.parametrize("slot", ["observation_encoder", "action_conditioner", "dynamics_model", "decoder"])
@pytest.mark.parametrize("how", ["wrapped", "subclass", "class"])
def test_a_part_that_is_wrapped_or_derived_from_learns_as_the_original(slot, how, build, rows, through):
    plain, other = build(episodic=True).train(), build(episodic=True).train()
    part = getattr(other, slot)
    derived = type("Derived", (type(part),), {})
    if how == "subclass":
        part.__class__ = derived
    other.set_component(slot, {"wrapped": through(part), "subclass": part, "class": derived}[how])
    ours, theirs = plain.loss(rows(plain)), other.loss(rows(plain))
    assert torch.equal(ours.loss, theirs.loss)
    assert set(ours.components) == set(theirs.components)


def test_a_decoder_that_only_predicts_is_learnt_with(build, rows):
    class Plain(torch.nn.Module):
        def __init__(self, config):
            super().__init__()
            self.layer = torch.nn.Linear(config.latent_dim, 2)

        def decode(self, state, conditions=None):
            reward, going_on = self.layer(state["latent"]).unbind(-1)
            return {"reward": reward, "continue": going_on.sigmoid()}

    model = build(episodic=True, component_overrides={"decoder": Plain}).train()
    out = model.loss(rows(model))
    out.loss.backward()
    assert {"reward", "termination"} <= set(out.components)
    assert model.decoder.layer.weight.grad.abs().sum(-1).all()


def test_a_decoder_that_predicts_too_little_is_named(build, rows):
    class Poor(torch.nn.Module):
        def decode(self, state, conditions=None):
            return {"reward": state["latent"].sum(-1)}

    model = build(episodic=True, component_overrides={"decoder": Poor()})
    with pytest.raises(ConfigurationError, match=r"decoder predicts \['reward'\]; training needs \['continue'\]"):
        model.loss(rows(model))


def test_flags_and_truths_may_be_observed(build, rows):
    modalities = {"place": {"shape": (3,)}, "touch": {"shape": (2,), "dtype": "bool"}}
    model = build(observation_modalities=modalities).train()
    batch = rows(model)
    batch.obs["touch"] = batch.obs["touch"] > 0
    model.loss(batch).loss.backward()
    state = model.encode({"place": torch.zeros(2, 3), "touch": torch.tensor([[True, False], [False, True]])})
    assert not torch.equal(state["latent"][0], state["latent"][1])


def test_dynamics_that_predict_too_little_are_named(build, rows):
    class Poor(torch.nn.Module):
        def transition(self, state, conditioned, deterministic=False):
            return State({"latent": state["latent"]})

    model = build(component_overrides={"dynamics_model": Poor})
    with pytest.raises(ConfigurationError, match=r"dynamics model must predict 'reward_logits' \[B, 101\]"):
        model.loss(rows(model))
    with pytest.raises(ConfigurationError, match="dynamics model must predict 'reward_logits'"):
        model.transition(model.encode(torch.zeros(2, 5)), torch.zeros(2, 2))
