"""Acting: by planning, or as the policy prior says."""

from __future__ import annotations

import pytest
import torch

import worldflux
from worldflux.planners import MPPIPlanner, PlannerPolicy

DISCRETE = {"kind": "discrete", "dim": 3}


def build(**options):
    options = options if "action_spec" in options else {"action_dim": 2, **options}
    return worldflux.create_world_model("tdmpc2:ci", obs_shape=(5,), **options).eval()


def learnt(**options):
    """A model whose heads say something."""
    model = build(**options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        model.updates += 1
    return model


def act(model, size=3, *, explore, carry=None, policy=None, obs=None, first=True):
    policy = policy or model.policy()
    obs = {"obs": torch.linspace(-1, 1, size * 5).reshape(size, 5)} if obs is None else obs
    flags = torch.full((size,), first)
    return policy(obs, policy.initial(size) if carry is None else carry, is_first=flags, explore=explore)


def test_random_actions_come_before_the_first_update_only():
    model = build(seed_steps=700)
    assert model.recipe().random_steps == 700
    model.on_after_optimizer_step()
    assert model.recipe().random_steps == 0


def test_random_actions_are_kept_to_those_a_task_has():
    obs = {"obs": torch.zeros(300, 5), "task": torch.arange(300) % 2}
    for mpc in (True, False):
        model = build(num_tasks=2, action_dims=(1, 2), mpc=mpc)
        action = model.policy().restrict(obs, torch.rand(300, 2) + 0.1)
        assert (action[::2] != 0).all(0).tolist() == [True, False]
        assert (action[1::2] != 0).all()
        discrete = build(num_tasks=2, action_dims=(2, 3), mpc=mpc, prior="categorical", action_spec=DISCRETE)
        drawn = torch.nn.functional.one_hot(torch.arange(300) // 2 % 3, 3).float()
        action = discrete.policy().restrict(obs, drawn)
        assert action[::2].sum(0).gt(0).tolist() == [True, True, False]
        assert torch.equal(action.sum(-1), torch.ones(300))
        assert torch.equal(action[1::2], drawn[1::2])
        one = build(mpc=mpc)
        assert torch.equal(one.policy().restrict({"obs": obs["obs"]}, drawn), drawn)


def test_a_plan_starts_from_the_one_before():
    model = learnt()
    policy = model.policy()
    _, carry = act(model, explore=False, policy=policy)
    fresh, _ = act(model, explore=False, policy=policy)
    warm, _ = act(model, explore=False, policy=policy, carry=carry, first=False)
    assert not torch.allclose(fresh, warm)
    again, _ = act(model, explore=False, policy=policy, carry=carry, first=True)
    assert torch.allclose(fresh, again)


def test_evaluation_draws_nothing_and_rows_do_not_matter_to_each_other():
    model = learnt()
    model.generator()
    before = model.rng_state()["cpu"].clone()
    action, _ = act(model, explore=False)
    assert torch.equal(model.rng_state()["cpu"], before)
    obs = torch.linspace(-1, 1, 15).reshape(3, 5)
    for row in range(3):
        alone, _ = act(model, 1, explore=False, obs={"obs": obs[row : row + 1]})
        assert torch.allclose(alone[0], action[row], atol=1e-4)


def test_exploring_draws_from_the_given_generator():
    model = learnt()
    found = [
        act(model, explore=True, policy=model.policy(generator=torch.Generator().manual_seed(s)))[0] for s in (1, 1, 2)
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_better_model_of_the_reward_makes_better_plans():
    """A model that knows reward = -|action - 0.5|² plans 0.5."""
    model = build(num_samples=256, num_elites=32, iterations=6)
    model.updates += 1

    class Paid:
        def transition(self, state, conditioned, deterministic=False):
            error = (conditioned["action"] - 0.5).square().sum(-1)
            return worldflux.State({"latent": state["latent"], "reward_logits": self.logits(-10 * error)})

        def logits(self, reward):
            from worldflux_tdmpc.tdmpc2 import twohot

            return (twohot.encode(reward, bins=101, limit=10.0) + 1e-9).log()

    model.set_component("dynamics_model", Paid())
    action, _ = act(model, explore=False)
    assert torch.allclose(action, torch.full_like(action, 0.5), atol=0.15)


def test_where_an_episode_ends_nothing_counts_any_more():
    model = learnt(episodic=True)
    state = model.encode(torch.zeros(2, 5))
    objective = model.policy().objective
    trajectory = model.rollout(state, torch.zeros(3, 2, 2))
    noise = model.value_noise(2, generator=torch.Generator().manual_seed(0), device=torch.device("cpu"))
    trajectory.rewards = torch.ones(3, 2)
    trajectory.continues = torch.tensor([[0.9, 0.9], [0.4, 0.9], [0.9, 0.9]])
    scores = objective.score(model, trajectory, noise).detach()
    value = model.terminal_value(trajectory.states[-1], noise)[1].detach()
    assert scores.tolist() == pytest.approx([1.99, float(1 + 0.99 + 0.99**2 + 0.99**3 * value)], abs=1e-4)


def test_the_policy_prior_alone():
    model = learnt(mpc=False)
    best, carry = act(model, explore=False)
    assert carry == {}
    assert torch.equal(best, act(model, explore=False)[0])
    assert not torch.equal(best, act(model, explore=True)[0])
    assert torch.equal(best, model.act(model.encode(torch.linspace(-1, 1, 15).reshape(3, 5)), None))


def test_a_task_plans_with_its_own_actions():
    model = learnt(num_tasks=2, action_dims=(1, 2))
    obs = {"obs": torch.zeros(2, 5), "task": torch.tensor([0, 1])}
    for explore in (False, True):
        action, _ = act(model, 2, explore=explore, obs=obs)
        assert (action != 0).tolist() == [[True, False], [True, True]]


def test_discrete_actions_are_one_hot():
    model = learnt(action_spec=DISCRETE, prior="categorical")
    for explore in (False, True):
        action, _ = act(model, explore=explore)
        assert action.sum(-1).tolist() == [1, 1, 1]
        assert set(action.unique().tolist()) == {0.0, 1.0}


def test_the_shared_planners_take_the_model_as_it_is():
    model = learnt()
    policy = PlannerPolicy(model, MPPIPlanner(num_samples=64, num_elites=8))
    action, _ = act(model, explore=True, policy=policy)
    assert action.shape == (3, 2)
    payload = MPPIPlanner(num_samples=64, num_elites=8).plan(model, model.encode(torch.zeros(3, 5)))
    assert model.rollout(model.encode(torch.zeros(3, 5)), payload).rewards.shape == (3, 3)


@pytest.mark.parametrize(("actions", "iterations"), [(6, 6), (19, 6), (20, 8), (38, 8)])
def test_many_actions_are_planned_with_two_more_iterations(actions, iterations):
    config = worldflux.get_config("tdmpc2:5m", obs_shape=(5,), action_dim=actions)
    assert config.plan_iterations == iterations
