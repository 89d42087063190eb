"""What other vectors of environments give, in all its forms: seeds, columns, lists, tensors and infos."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorWrapper
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics

from worldflux.core.errors import ConfigurationError
from worldflux.envs import EnvironmentFailure, make_env


def rewards_and_flags(env, num: int):
    step, out = env.reset(seed=0), []
    for _ in range(num):
        out.append((step.reward.tolist(), step.is_first.tolist(), step.is_last.tolist(), step.is_terminal.tolist()))
        out[-1] += (step.obs["obs"].argmax(1).tolist(),)
        step = env.step(np.eye(3, dtype=np.float32)[[1, 2]])
    return out


def vector(counter, mode=AutoresetMode.NEXT_STEP):
    return SyncVectorEnv([lambda: counter(3), lambda: counter(2, terminates=False)], autoreset_mode=mode)


class Columns(VectorWrapper):
    """Gives a column of rewards, as a tensor that has a gradient."""

    def step(self, actions):
        obs, reward, *rest = self.env.step(actions)
        return obs, torch.from_numpy(reward)[:, None].requires_grad_(), *rest


class Lists(VectorWrapper):
    """Gives lists, and observations as tensors."""

    def step(self, actions):
        obs, reward, terminated, truncated, info = self.env.step(actions)
        return torch.from_numpy(obs), reward.tolist(), [[one] for one in terminated.tolist()], truncated, info


class TerminalObservation(VectorWrapper):
    """Tells the last observation under another name, in a list of dicts."""

    def step(self, actions):
        *rest, info = self.env.step(actions)
        finals = info.get("final_obs", [None] * self.num_envs)
        return *rest, [{} if final is None else {"terminal_observation": final} for final in finals]


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("wrap", [Columns, Lists, TerminalObservation, DictInfoToList, RecordEpisodeStatistics])
def test_rows_do_not_depend_on_the_form_they_are_given_in(counter, mode, wrap):
    plain = rewards_and_flags(make_env(vector(counter, mode)), 8)
    assert rewards_and_flags(make_env(wrap(vector(counter, mode))), 8) == plain


@pytest.mark.parametrize("spelled", ["NextStep", "next_step", "NEXT_STEP"])
def test_the_autoreset_mode_may_be_spelled_either_way(counter, spelled):
    env = vector(counter)
    plain = rewards_and_flags(make_env(env), 8)
    env.metadata = {"autoreset_mode": spelled}
    assert rewards_and_flags(make_env(env), 8) == plain


@pytest.mark.parametrize("reward", [np.zeros((2, 2)), np.zeros(1), np.zeros((1, 2)), 0.0, np.array(["a", "b"])])
def test_rewards_that_are_not_one_for_each_environment_are_refused(counter, reward):
    class Odd(VectorWrapper):
        def step(self, actions):
            obs, _, *rest = self.env.step(actions)
            return obs, reward, *rest

    env = make_env(Odd(vector(counter)))
    env.reset(seed=0)
    with pytest.raises(EnvironmentFailure, match="rewards of shape.*one number for each of its 2 environments"):
        env.step(np.eye(3, dtype=np.float32)[[1, 2]])


def test_a_vector_that_takes_one_seed_follows_it():
    env = make_env(gymnasium.make_vec("CartPole-v1", num_envs=3, vectorization_mode="vector_entry_point"))
    first, again, other = (env.reset(seed=seed).obs["obs"] for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert len(np.unique(first[:, 0])) == 3
    env.close()


@pytest.mark.parametrize("info", [None, [], [{}, {}], {}, "text", [None, None]])
def test_an_end_without_its_last_observation_is_refused_by_name(counter, info):
    class Silent(VectorWrapper):
        def step(self, actions):
            *rest, _ = self.env.step(actions)
            return *rest, info

    env = make_env(Silent(vector(counter, AutoresetMode.SAME_STEP)))
    with pytest.raises(ConfigurationError, match="says SAME_STEP but gave no info"):
        rewards_and_flags(env, 8)


@pytest.mark.parametrize("flag", [np.array([True]), torch.tensor(True), 1, np.bool_(True)])
def test_ends_may_be_anything_that_is_one_number(counter, flag):
    class Ends(counter):
        def step(self, action):
            obs, reward, *_ = super().step(action)
            return obs, np.array([[reward]]), flag, False, {}

    env = make_env(Ends)
    env.reset(seed=0)
    step = env.step(np.eye(3, dtype=np.float32)[[1]])
    assert step.is_terminal.tolist() == [True] and step.reward.tolist() == [11]


def test_an_end_that_is_several_numbers_is_refused_by_name(counter):
    class Ends(counter):
        def step(self, action):
            obs, reward, *_ = super().step(action)
            return obs, reward, np.array([True, False]), False, {}

    env = make_env(Ends)
    env.reset(seed=0)
    with pytest.raises(EnvironmentFailure, match="environment 0 gave the terminated .* expected one number"):
        env.step(np.eye(3, dtype=np.float32)[[1]])
