from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from worldflux.blocks import ActingModel, MemorylessPolicy
from worldflux.core.config import WorldModelConfig
from worldflux.core.errors import ConfigurationError
from worldflux.core.output import LossOutput
from worldflux.core.policy import Policy
from worldflux.core.state import State
from worldflux.planners import OffersProposals, OffersValue


@dataclass
class CounterConfig(WorldModelConfig):
    model_type: str = "counter"
    action_dim: int = 1


class Counter(ActingModel):
    """Adds what is done to what there is; its actor does half of what there is, and noise."""

    config_class = CounterConfig

    def encode(self, obs, deterministic=False):
        assert deterministic
        return State({"sum": obs["obs"] if isinstance(obs, dict) else obs})

    def transition(self, state, action, conditions=None, deterministic=False):
        assert deterministic
        return State({"sum": state["sum"] + action})

    def loss(self, batch):
        return LossOutput(batch.rewards.sum())

    def act(self, state, noise):
        return state["sum"] / 2 + (0 if noise is None else noise)

    def action_noise(self, *shape, generator, device):
        return torch.rand(*shape, 1, generator=generator, device=device)


@pytest.fixture
def model():
    return Counter(CounterConfig())


CPU = torch.device("cpu")


def test_a_plan_follows_the_actor_in_imagination(model):
    noise = {"action": torch.tensor([[[0.0]], [[1.0]], [[0.0]]])}
    plan = model.propose(State({"sum": torch.tensor([[4.0]])}), 3, noise)
    assert plan.flatten().tolist() == [2.0, 4.0, 5.0]  # sums 4, 6, 10


def test_planners_find_the_offers_that_are_there(model):
    assert isinstance(model, OffersProposals) and not isinstance(model, OffersValue)
    drawn = [torch.Generator().manual_seed(0) for _ in range(2)]
    assert model.proposal_noise(3, 5, generator=drawn[0], device=CPU)["action"].shape == (3, 5, 1)
    assert model.value_noise(5, generator=drawn[1], device=CPU)["action"].shape == (5, 1)


def test_a_memoryless_policy_carries_nothing(model):
    policy = model.policy()
    assert isinstance(policy, MemorylessPolicy) and isinstance(policy, Policy)
    carry = policy.initial(2)
    action, after = policy({"obs": torch.tensor([[4.0], [6.0]])}, carry, is_first=torch.zeros(2), explore=False)
    assert action.flatten().tolist() == [2.0, 3.0]
    assert carry == after == policy.latents(after) == dict(policy.latent_spec) == {}


def test_a_policy_draws_only_where_it_explores(model):
    seen, first = torch.ones(2, 1, requires_grad=True), torch.ones(2)
    model.policy()(seen, {}, is_first=first, explore=False)
    assert not model.rng_state()
    model.seed(3)
    action, _ = model.policy()(seen, {}, is_first=first, explore=True)
    given, _ = model.policy(generator=torch.Generator().manual_seed(3))(seen, {}, is_first=first, explore=True)
    assert torch.equal(action, given) and not torch.equal(action, torch.full((2, 1), 0.5))
    assert not action.requires_grad


def test_a_model_that_does_not_say_how_it_acts_cannot_be_made():
    class Mute(ActingModel):
        def loss(self, batch):
            return LossOutput(batch.rewards.sum())

    with pytest.raises(TypeError, match="act"):
        Mute(CounterConfig())


@pytest.mark.parametrize("arguments", [(), ("obs",), ("obs", {})])
def test_a_policy_called_as_a_function_of_observations_says_what_it_wants(model, arguments):
    policy, obs = MemorylessPolicy(model), torch.zeros(1, 1)
    with pytest.raises(ConfigurationError, match=r"policy.obs, carry, is_first=.*agent = model.agent.env.*agent.act"):
        policy(*(obs if argument == "obs" else argument for argument in arguments))
    assert policy(obs, {}, is_first=torch.ones(1, dtype=torch.bool), explore=False)[1] == {}
