"""Both families learn what is seen alone where there is nothing else to learn."""

from __future__ import annotations

import pytest
import torch

from worldflux import Batch, CapabilityError, WorldModel, create_world_model
from worldflux.core.errors import ConfigurationError

ALONE = {
    "dreamer:ci": {"actor_critic": False, "reward_head": False, "continue_head": False},
    "planet:ci": {"reward_head": False},
}


def alone(family: str) -> WorldModel:
    return create_world_model(family, obs_shape=(3,), action_dim=2, **ALONE[family])


def batch(**more: torch.Tensor) -> Batch:
    drawn = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    flags = torch.zeros(2, 6, dtype=torch.bool)
    return Batch(obs={"obs": drawn[..., :3]}, actions=drawn[..., 3:], is_first=flags, is_last=flags, **more)


@pytest.mark.parametrize("family", ALONE)
def test_nothing_is_predicted_promised_or_required_that_there_is_no_head_for(family):
    model = alone(family)
    assert set(model.decode(model.initial_state(2)).preds) == {"obs"}
    assert not {"reward_pred", "continue_pred", "planning", "policy", "value"} & model.capabilities
    assert model.io_contract().required_batch_keys == ("obs", "actions")
    found = model.loss(batch())
    assert found.loss.isfinite()
    assert not {"rew", "con"} & set(found.components)


@pytest.mark.parametrize("family", ALONE)
def test_rewards_that_are_there_change_nothing(family):
    model = alone(family)
    losses = []
    for one in (batch(), batch(rewards=torch.full((2, 6), 7.0), is_terminal=torch.ones(2, 6, dtype=torch.bool))):
        model.seed(0)
        losses.append(model.loss(one).loss)
    assert losses[0].equal(losses[1])


@pytest.mark.parametrize("family", ALONE)
def test_a_saved_one_is_loaded_without_its_heads(family, tmp_path):
    alone(family).save_pretrained(tmp_path)
    loaded = WorldModel.from_pretrained(tmp_path)
    assert {name: getattr(loaded.config, name) for name in ALONE[family]} == ALONE[family]


@pytest.mark.parametrize("family", ALONE)
def test_there_is_no_policy_without_rewards(family):
    with pytest.raises(CapabilityError, match="built with"):
        alone(family).policy()


@pytest.mark.parametrize("head", ["reward_head", "continue_head"])
def test_an_actor_needs_both_heads(head):
    with pytest.raises(ConfigurationError, match=f"{head}=False needs actor_critic=False"):
        create_world_model("dreamer:ci", obs_shape=(3,), action_dim=2, **{head: False})
