"""The first rows may be acted at random by the source itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from worldflux.core.errors import ConfigurationError
from worldflux.data import BatchRequest, EnvironmentSource, Replay
from worldflux.envs import make_env


class Counting:
    """Takes the first action always, and keeps how often it was asked since its carry was fresh."""

    latent_spec = {"count": ((1,), "float32")}

    def __init__(self, dim):
        self.dim, self.seen = dim, []

    def initial(self, batch_size):
        return {"count": torch.zeros(batch_size, 1)}

    def __call__(self, obs, carry, *, is_first, explore):
        self.seen.append((carry["count"].clone(), is_first.clone()))
        action = torch.zeros(len(is_first), self.dim)
        action[:, 0] = 1
        return action, {"count": carry["count"] + 1}

    def latents(self, carry):
        return {"count": carry["count"]}


def source(env, policy=None, **options):
    policy = policy or Counting(env.action_spec.dim)
    replay = Replay(
        400,
        obs_spec=env.obs_spec,
        action_spec=env.action_spec,
        num_streams=env.num_envs,
        latent_spec=policy.latent_spec,
    )
    return EnvironmentSource(env, policy, replay, **{"replay_ratio": 8.0, **options})


def rows(collecting):
    return collecting.replay.state_dict()[0]


def test_the_first_rows_are_random_and_the_policy_begins_after_them(counter):
    collecting = source(make_env(lambda: counter(7), num_envs=2), random_steps=100, min_rows=60)
    while collecting.env_steps < 130:
        collecting.sample(BatchRequest(2, 5))
    actions, counts = rows(collecting)["action"], rows(collecting)["latent/count"][..., 0]
    assert (actions.sum(-1) == 1).all() and set(np.unique(actions)) == {0, 1}  # one-hot
    assert (actions[:, :50].mean((0, 1)) > 0.2).all() and (actions[:, 50:, 0] == 1).all()
    assert (counts[:, :50] == 0).all() and counts[0, 50:].tolist() == list(range(1, len(counts[0]) - 49))
    policy = collecting.policy
    assert len(policy.seen) == counts.shape[1] - 50
    carry, first = policy.seen[0]
    assert not carry.any() and first.all()  # though no episode begins in row 50
    assert not rows(collecting)["is_first"][:, 50].any() and not policy.seen[1][1].all()


def test_continuous_actions_are_uniform():
    collecting = source(make_env("Pendulum-v1", num_envs=2), random_steps=400)
    collecting.sample(BatchRequest(2, 5))
    actions = rows(collecting)["action"]
    assert -1 <= actions.min() < -0.97 and 0.97 < actions.max() <= 1 and abs(actions.mean()) < 0.1


@pytest.mark.parametrize(("steps", "num_envs", "random"), [(0, 2, 0), (31, 2, 32), (32, 3, 33), (33, 3, 33)])
def test_whole_steps_of_all_environments_are_random(counter, steps, num_envs, random):
    collecting = source(make_env(lambda: counter(7), num_envs=num_envs), random_steps=steps, min_rows=1)
    while collecting.env_steps < 60:
        collecting.sample(BatchRequest(2, 5))
    assert int((rows(collecting)["latent/count"] == 0).sum()) == random


def test_the_first_batch_comes_after_the_random_rows_unless_told_otherwise(counter):
    later, sooner = (source(make_env(counter), random_steps=60, **more) for more in ({}, {"min_rows": 20}))
    for one in (later, sooner):
        one.sample(BatchRequest(2, 5))
    assert (later.env_steps, sooner.env_steps) == (60, 24)
    while sooner.env_steps < 70:
        sooner.sample(BatchRequest(2, 5))
    assert len(sooner.policy.seen) == sooner.env_steps - 60


def test_no_policy_acts_before_the_first_batch_where_anything_is_random(counter):
    collecting = source(make_env(counter), random_steps=1, min_rows=30)
    collecting.sample(BatchRequest(2, 5))
    assert collecting.env_steps >= 34 and not collecting.policy.seen
    while not collecting.policy.seen:
        collecting.sample(BatchRequest(2, 5))
    carry, first = collecting.policy.seen[0]
    assert first.all() and not carry.any()


def test_random_rows_may_be_more_than_the_replay_holds(counter):
    collecting = source(make_env(counter), random_steps=900)
    collecting.sample(BatchRequest(2, 5))
    assert collecting.env_steps == 900 and len(collecting.replay) == 400


def test_a_policy_may_say_what_of_a_random_action_is_used(counter):
    class Two(Counting):
        def restrict(self, obs, action):
            assert obs["obs"].shape == (len(action), 8)
            return torch.eye(3)[action[:, :2].argmax(-1)]

    collecting = source(make_env(counter), Two(3), random_steps=50)
    collecting.sample(BatchRequest(2, 5))
    assert (rows(collecting)["action"][0].sum(0) > [5, 5, -1]).all() and not rows(collecting)["action"][..., 2].any()


@pytest.mark.parametrize("batches", [3, 9, 30])
def test_a_run_goes_on_exactly_from_within_the_random_rows(counter, batches):
    def build(seed):
        return source(make_env(lambda: counter(7), num_envs=2), random_steps=60, min_rows=8, seed=seed)

    def run(one, number):
        return [dict(one.sample(BatchRequest(2, 4)).tensors()) for _ in range(number)]

    whole, other = build(3), build(3)
    run(whole, batches)
    arrays, meta = whole.state_dict()
    other.load_state_dict({name: array.copy() for name, array in arrays.items()}, json.loads(json.dumps(meta)))
    for left, right in zip(run(whole, 60), run(other, 60)):
        assert all(torch.equal(left[name], right[name]) for name in left)
    begun = whole.policy.seen[-len(other.policy.seen) :]
    assert all(torch.equal(a, b) for left, right in zip(begun, other.policy.seen) for a, b in zip(left, right))


def test_random_actions_follow_the_seed_and_nothing_else(counter):
    def actions(seed):
        collecting = source(make_env(counter), random_steps=50, seed=seed)
        collecting.sample(BatchRequest(2, 5))
        return rows(collecting)["action"].copy()

    torch.manual_seed(1)
    state, one = torch.get_rng_state(), actions(1)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    assert np.array_equal(one, actions(1)) and not np.array_equal(one, actions(2))


def test_what_an_earlier_version_saved_can_be_gone_on_with(counter):
    saved, other = source(make_env(counter)), source(make_env(counter))
    saved.sample(BatchRequest(2, 5))
    arrays, meta = saved.state_dict()
    del meta["random"]
    other.load_state_dict(arrays, meta)
    assert other.env_steps == saved.env_steps


@pytest.mark.parametrize(
    "option",
    [
        {"random_steps": -1},
        {"random_steps": 2.5},
        {"random_steps": True},
        {"min_rows": 0},
        {"context_rows": "1"},
        {"seed": -1},
        {"replay_ratio": "8"},
        {"replay_ratio": float("inf")},
        {"replay_ratio": None},
    ],
)
def test_options_that_cannot_work_are_named(counter, option):
    with pytest.raises(ConfigurationError, match=next(iter(option))):
        source(make_env(counter), **option)
