"""Acting: pure, seeded, and what the replay stores of it."""

from __future__ import annotations

import pytest
import torch

from worldflux import Policy
from worldflux_dreamer import DreamerV3, DreamerV3Config

SIZES = {"deter_dim": 16, "hidden_dim": 8, "stoch": 4, "classes": 4, "blocks": 2, "units": 12, "obs_shape": (5,)}
MULTI = {
    "kind": "multi",
    "parts": [
        {"name": "steer", "kind": "continuous", "dim": 2},
        {"name": "gear", "kind": "discrete", "dim": 3},
    ],
}


@pytest.fixture
def model():
    return DreamerV3(DreamerV3Config(**SIZES, action_spec=MULTI)).eval()


def act(policy, obs, carry, *, explore, first=False):
    is_first = torch.full((len(obs),), first)
    return policy({"obs": obs}, carry, is_first=is_first, explore=explore)


def test_it_is_a_policy(model):
    assert isinstance(model.policy(), Policy)


def test_composite_actions_are_flat_and_sorted(model):
    policy = model.policy()
    action, _ = act(policy, torch.rand(6, 5), policy.initial(6), explore=True)
    assert action.shape == (6, 5)  # gear (one-hot of 3) before steer (2)
    assert torch.equal(action[:, :3].sum(-1), torch.ones(6))
    assert action[:, :3].max(-1).values.eq(1).all()
    assert list(model.actor.heads) == ["gear", "steer"]


def test_the_same_generator_acts_the_same(model):
    obs = torch.rand(6, 5)
    actions = []
    for seed in (1, 1, 2):
        policy = model.policy(generator=torch.Generator().manual_seed(seed))
        actions.append(act(policy, obs, policy.initial(6), explore=True)[0])
    assert torch.equal(actions[0], actions[1])
    assert not torch.equal(actions[0], actions[2])
    assert model.rng_state() == {}


def test_a_carry_is_not_changed_and_memory_is_in_it(model):
    policy, obs = model.policy(), torch.rand(2, 5)
    _, carry = act(policy, obs, policy.initial(2), explore=False, first=True)
    kept = {name: value.clone() for name, value in carry.items()}
    once = act(policy, obs, carry, explore=False)
    twice = act(policy, obs, carry, explore=False)
    assert torch.equal(once[0], twice[0])
    assert all(torch.equal(carry[name], value) for name, value in kept.items())
    assert not torch.equal(once[1]["deter"], carry["deter"])


def test_is_first_forgets_each_row_on_its_own(model):
    policy, obs = model.policy(), torch.rand(2, 5)
    _, carry = act(policy, obs, policy.initial(2), explore=False, first=True)
    first = torch.tensor([True, False])
    _, mixed = policy({"obs": obs}, carry, is_first=first, explore=False)
    _, fresh = act(policy, obs, policy.initial(2), explore=False, first=True)
    _, going_on = act(policy, obs, carry, explore=False)
    torch.testing.assert_close(mixed["deter"][0], fresh["deter"][0])
    torch.testing.assert_close(mixed["deter"][1], going_on["deter"][1])


def test_latents_are_small_and_round_trip(model):
    policy = model.policy()
    _, carry = act(policy, torch.rand(2, 5), policy.initial(2), explore=True)
    latents = policy.latents(carry)
    for name, (shape, dtype) in policy.latent_spec.items():
        assert latents[name].shape == (2, *shape)
        assert str(latents[name].dtype) == f"torch.{dtype}"
    assert torch.equal(torch.nn.functional.one_hot(latents["stoch"].long(), 4).float(), carry["stoch"])
    torch.testing.assert_close(latents["deter"].float(), carry["deter"], rtol=1e-3, atol=1e-3)


def test_initial_entropy_is_near_the_largest(model):
    policy = model.policy(generator=torch.Generator().manual_seed(0))
    action, _ = act(policy, torch.rand(3000, 5), policy.initial(3000), explore=True)
    assert (action[:, :3].mean(0) - 1 / 3).abs().max() < 0.05
    cut = action[:, 3:].abs() == 1  # a normal of standard deviation 0.89 is beyond 1 in 26 of 100 draws
    assert (cut.float().mean(0) - 0.26).abs().max() < 0.03
    assert action.abs().max() == 1
