"""The planners plan inside a family they know nothing of."""

from __future__ import annotations

import pytest
import torch

import worldflux
from worldflux.envs import make_env
from worldflux.evals import evaluate_policy
from worldflux.planners import GoalObjective, PlannerPolicy, make_planner

FEW = {"num_samples": 6, "num_elites": 2, "iterations": 2}
SMALL = {
    "random": {"num_samples": 6},
    "cem": FEW,
    "icem": FEW,
    "mppi": FEW,
    "gradient": {"num_samples": 2, "iterations": 2},
}


@pytest.mark.parametrize(
    ("env_id", "name"),
    [("Pendulum-v1", name) for name in SMALL] + [("CartPole-v1", name) for name in SMALL if name != "gradient"],
)
def test_any_planner_acts_with_dreamer(env_id, name):
    env = make_env(env_id, num_envs=2, seed=0)
    model = worldflux.create_world_model("dreamer:ci", observation_modalities=env.obs_spec, action_spec=env.action_spec)
    policy = PlannerPolicy(model, make_planner(name, horizon=3, **SMALL[name]))
    result = evaluate_policy(env, policy, episodes=2, max_steps=3, explore=True)
    env.close()
    assert result.unfinished == 2  # three steps are no episode
    assert all(p.grad is None for p in model.parameters())


def test_a_goal_is_an_observation_that_was_encoded():
    model = worldflux.create_world_model("dreamer:ci", obs_shape=(4,), action_dim=2)
    state = model.encode(torch.zeros(3, 4), deterministic=True)
    goal = GoalObjective(model.encode(torch.ones(1, 4), deterministic=True), key="deter")
    payload = make_planner("cem", horizon=4, **FEW).plan(model, state, goal)
    assert model.rollout(state, payload, deterministic=True).actions.shape == (4, 3, 2)
