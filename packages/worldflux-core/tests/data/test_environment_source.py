"""Collecting while sampling."""

from __future__ import annotations

import logging

import gymnasium
import numpy as np
import pytest
import torch

from worldflux.core.errors import ConfigurationError, TrainingError
from worldflux.data import BatchRequest, EnvironmentSource, Replay
from worldflux.envs import RandomPolicy, make_env


class CountingPolicy:
    """Remembers how often it acted since the episode began, and keeps that as a latent."""

    latent_spec = {"count": ((1,), "float32")}

    def __init__(self, num_actions=3):
        self.num_actions = num_actions
        self.calls = 0

    def initial(self, batch_size):
        return {"count": torch.zeros(batch_size, 1)}

    def __call__(self, obs, carry, *, is_first, explore):
        assert explore and not torch.is_grad_enabled() and is_first.dtype == torch.bool
        self.calls += 1
        count = torch.where(is_first[:, None], 0, carry["count"] + 1)
        index = (count[:, 0].long() + torch.arange(len(count))) % self.num_actions
        return torch.nn.functional.one_hot(index, self.num_actions).float(), {"count": count}

    def latents(self, carry):
        return {"count": carry["count"]}


def source(env, policy=None, capacity=400, **options):
    policy = policy or CountingPolicy(env.action_spec.dim)
    replay_options = {name: options.pop(name) for name in ("boundary", "online", "sequence_length") if name in options}
    replay = Replay(
        capacity,
        obs_spec=env.obs_spec,
        action_spec=env.action_spec,
        num_streams=env.num_envs,
        latent_spec=policy.latent_spec,
        **replay_options,
    )
    return EnvironmentSource(env, policy, replay, **{"replay_ratio": 8.0, **options})


def test_rewards_observations_actions_and_latents_stand_in_the_row_they_belong_to(counter):
    made = iter([counter(3), counter(5, terminates=False)])
    batch = source(make_env(lambda: next(made), num_envs=2)).sample(BatchRequest(64, 12))
    t = batch.obs["obs"].argmax(-1)
    action = batch.actions.argmax(-1)
    assert torch.equal(batch.is_first, t == 0)
    expected = t[:, 1:] + 10 * action[:, :-1]
    assert torch.equal(batch.rewards[:, 1:], torch.where(batch.is_first[:, 1:], 0, expected).float())
    assert torch.equal(batch.context["count"][..., 0], t.float())
    assert torch.equal(batch.is_first[:, 1:], batch.is_last[:, :-1])
    assert batch.is_terminal.any() and not batch.is_terminal[t > 3].any()
    assert (batch.is_last & ~batch.is_terminal).any()


def test_the_replay_ratio_is_replayed_rows_per_environment_step(counter, caplog):
    collecting = source(make_env(counter, num_envs=2), replay_ratio=4, min_rows=20)
    with caplog.at_level(logging.INFO):
        collecting.sample(BatchRequest(4, 10))
    assert "replay ratio 4 = 1 update per 10 environment steps" in caplog.text
    start = collecting.env_steps
    for _ in range(50):
        collecting.sample(BatchRequest(4, 10))
    assert collecting.env_steps - start == 500


def test_many_updates_fall_on_one_step_when_the_ratio_is_high(counter):
    collecting = source(make_env(counter), replay_ratio=80, context_rows=1)
    collecting.sample(BatchRequest(2, 11))
    start = collecting.env_steps
    for _ in range(12):
        collecting.sample(BatchRequest(2, 11))
    assert collecting.env_steps - start == 3  # 20 rows a batch: the leading one of each sequence does not count


def test_nothing_is_sampled_before_enough_rows_are_there(counter):
    collecting = source(make_env(counter), min_rows=30)
    collecting.sample(BatchRequest(2, 5))
    assert collecting.env_steps == 34  # 30 starts of sequences of five


def test_metrics_are_of_the_episodes_that_ended_since(counter):
    collecting = source(make_env(lambda: counter(3)), min_rows=12)
    collecting.sample(BatchRequest(1, 1))
    metrics = collecting.metrics()
    assert metrics["env_steps"] == 12 and metrics["episodes"] == 3
    assert metrics["episode/return"] == (1 + 2 + 3) + 10 * (0 + 1 + 2) and metrics["episode/length"] == 3
    assert "episode/return" not in collecting.metrics() and collecting.metrics()["episodes"] == 3


def test_latents_go_back_into_the_replay(counter):
    collecting = source(make_env(counter))
    batch = collecting.sample(BatchRequest(3, 4))
    assert collecting.update(batch, {"count": torch.zeros(3, 2, 1)}) == 6


def test_an_environment_that_raises_loses_nothing_and_can_be_gone_on_with(counter):
    made = iter([counter(6), counter(6, fails_at=4)])
    collecting = source(make_env(lambda: next(made), num_envs=2), min_rows=8)
    with pytest.raises(TrainingError, match="environment 1 failed at environment step 8: .*gripper is stuck") as caught:
        collecting.sample(BatchRequest(2, 3))
    assert isinstance(caught.value, RuntimeError) and isinstance(caught.value.__cause__.__cause__, RuntimeError)
    assert len(collecting.replay) == 8
    rows = collecting.replay.sample(BatchRequest(20, 4))
    assert torch.equal(rows.is_last, rows.obs["obs"].argmax(-1) == 3) and not rows.is_terminal.any()
    with pytest.raises(TrainingError, match="environment 1"):
        [collecting.sample(BatchRequest(2, 3)) for _ in range(20)]
    longer = collecting.replay.sample(BatchRequest(200, 8))
    assert torch.equal(longer.is_first[:, 1:], longer.is_last[:, :-1])


@pytest.mark.parametrize("what", ["reward", "observation"])
def test_a_number_that_is_not_finite_names_environment_and_step(what):
    class Broken(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)
        steps = 0

        def reset(self, *, seed=None, options=None):
            return np.zeros(2, np.float32), {}

        def step(self, action):
            self.steps += 1
            bad = np.nan if self.steps == 3 else 0.0
            obs = np.array([0, bad if what == "observation" else 0], np.float32)
            return obs, bad if what == "reward" else 0.0, False, False, {}

    collecting = source(make_env(Broken), min_rows=10)
    key = "obs/obs" if what == "observation" else "reward"
    with pytest.raises(TrainingError, match=f"step 3: '{key}' of environment 0 is nan at row 3"):
        collecting.sample(BatchRequest(2, 3))
    assert len(collecting.replay) == 3
    collecting.sample(BatchRequest(2, 3))


def test_what_does_not_fit_together_is_refused(counter):
    env = make_env(counter, num_envs=2)
    one = source(make_env(counter)).replay
    with pytest.raises(ConfigurationError, match="pass num_streams=2"):
        EnvironmentSource(env, CountingPolicy(), one, replay_ratio=1)
    with pytest.raises(ConfigurationError, match="replay_ratio must be positive"):
        source(env, replay_ratio=0)
    with pytest.raises(ConfigurationError, match=r"latent_spec=policy\.latent_spec"):
        EnvironmentSource(make_env(counter), RandomPolicy(env.action_spec), one, replay_ratio=1)
    with pytest.raises(ConfigurationError, match="environments observe"):
        EnvironmentSource(make_env("CartPole-v1"), CountingPolicy(), one, replay_ratio=1)


def test_a_replay_that_can_never_hold_enough_is_refused(counter):
    with pytest.raises(ConfigurationError, match="raise its capacity"):
        source(make_env(counter), capacity=20, min_rows=14).sample(BatchRequest(4, 8))
    with pytest.raises(ConfigurationError, match="raise its capacity"):
        source(make_env(counter), capacity=20).sample(BatchRequest(4, 21))
    source(make_env(counter), capacity=20).sample(BatchRequest(4, 8))


def test_a_resumed_run_goes_on_bit_for_bit():
    def build():
        env = make_env("CartPole-v1", num_envs=2)
        return source(env, RandomPolicy(env.action_spec, seed=4), capacity=100, seed=1, online=True, sequence_length=5)

    def run(collecting, updates):
        return [dict(collecting.sample(BatchRequest(3, 5)).tensors()) for _ in range(updates)]

    whole, first, second = build(), build(), build()
    run(whole, 40)
    run(first, 40)
    arrays, meta = first.state_dict()
    second.load_state_dict({name: array.copy() for name, array in arrays.items()}, meta)
    for left, right in zip(run(whole, 60), run(second, 60)):
        assert all(torch.equal(left[name], right[name]) for name in left)
    assert whole.metrics() == second.metrics()


def test_the_carry_of_the_policy_is_resumed_too(counter):
    def build():
        return source(make_env(lambda: counter(6), num_envs=2), min_rows=8)

    whole, resumed = build(), build()
    for _ in range(9):
        whole.sample(BatchRequest(2, 4))
    resumed.load_state_dict(*whole.state_dict())
    for _ in range(9):
        left, right = (s.sample(BatchRequest(2, 4)) for s in (whole, resumed))
        assert torch.equal(left.context["count"], right.context["count"]) and torch.equal(
            left.obs["obs"], right.obs["obs"]
        )


def test_where_environments_cannot_be_played_again_new_episodes_begin(counter):
    class Drifting(counter):
        """Counts from a number that its seed does not decide."""

        resets = 0

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            Drifting.resets += 1
            self.drift = np.full(8, Drifting.resets, np.float32)
            return self.drift, {}

        def step(self, action):
            obs, *rest = super().step(action)
            return obs + self.drift, *rest

    def build():
        return source(make_env(lambda: Drifting(4)), min_rows=5, capacity=50)

    first, second = build(), build()
    for _ in range(3):
        first.sample(BatchRequest(1, 2))
    newest = lambda s: bool(s.replay.state_dict()[0]["is_last"][0, -1])
    assert not newest(first)
    second.load_state_dict(*first.state_dict())
    assert newest(second)
    assert len(second.replay) == len(first.replay) and second.env_steps == first.env_steps
    for _ in range(30):
        second.sample(BatchRequest(4, 2))
    rows = second.replay.sample(BatchRequest(300, 6))
    assert torch.equal(rows.is_first[:, 1:], rows.is_last[:, :-1])


def test_catching_up_makes_up_for_the_steps_before_the_first_batch_and_no_others(counter):
    collecting = source(make_env(counter), min_rows=30, replay_ratio=5, catch_up=True)
    collecting.sample(BatchRequest(2, 5))
    assert collecting.env_steps == 34
    for _ in range(16):
        collecting.sample(BatchRequest(2, 5))
    assert collecting.env_steps == 34  # 34 steps at 5 rows each are 17 batches of 10
    for _ in range(3):
        collecting.sample(BatchRequest(2, 5))
    assert collecting.env_steps == 40


def test_what_is_still_to_be_made_up_for_is_known_after_going_on(counter):
    first, second = (source(make_env(counter), min_rows=30, replay_ratio=5, catch_up=True) for _ in range(2))
    first.sample(BatchRequest(2, 5))
    second.load_state_dict(*first.state_dict())
    assert second.replayed_steps == first.replayed_steps < second.env_steps


def test_a_full_replay_whose_episodes_leave_too_few_starts_is_sampled_all_the_same(counter):
    collecting = source(make_env(lambda: counter(5)), capacity=30, min_rows=27, boundary="within")
    collecting.sample(BatchRequest(2, 4))
    assert collecting.env_steps == 30


def test_a_policy_that_remembers_something_else_than_was_saved_begins_new_episodes(counter, caplog):
    class Forgetful(CountingPolicy):
        def initial(self, batch_size):
            return {"steps": torch.zeros(batch_size, 1)}

    before = source(make_env(lambda: counter(6)), min_rows=8)
    before.sample(BatchRequest(2, 4))
    after = source(make_env(lambda: counter(6)), Forgetful(), min_rows=8)
    after.load_state_dict(*before.state_dict())
    assert "remembers ['steps'], but ['count'] was saved" in caplog.text
    assert after._step is None and after.replay.num_valid_starts(4) == before.replay.num_valid_starts(4)


@pytest.mark.parametrize("request_", [4, None, "4"])
def test_a_request_that_is_none_is_answered_before_anything_is_collected(counter, request_):
    collecting = source(make_env(counter))
    with pytest.raises(ConfigurationError, match="BatchRequest"):
        collecting.sample(request_)
    assert collecting.env_steps == 0


def test_the_latents_that_are_kept_are_those_of_the_replay(counter):
    env = make_env(counter)
    assert source(env).latent_names == ["count"]
    assert source(env, RandomPolicy(env.action_spec)).latent_names == []
