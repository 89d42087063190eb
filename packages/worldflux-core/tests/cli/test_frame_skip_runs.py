"""Runs that learned from every k-th row, where they meet environments: what is recorded, refused and compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from worldflux.core.errors import CapabilityError, ConfigurationError
from worldflux.core.spec import ActionSpec, vector
from worldflux.data import ActionBounds, DatasetWriter, open_dataset
from worldflux.experiment import Run, collect, fit
from worldflux.experiment.single_steps import SingleSteps

gym = pytest.importorskip("gymnasium")
SMALL = {"updates": 2, "device": "cpu", "threads": 1, "eval_episodes": 2, "sequence_length": 3, "held_out": 0.0}


class Walk(gym.Env):
    """Shows the time and what was done last; over after 4 to 6 steps."""

    observation_space = gym.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gym.spaces.Box(-2, 2, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.length = 0, int(self.np_random.integers(4, 7))
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.float32([self.time / 10, action[0]]), 1.0, False, self.time == self.length, {}


def write(path, bounds):
    rng = np.random.default_rng(0)
    with DatasetWriter(path, {"obs": vector(2)}, ActionSpec("continuous", 1), action_bounds=bounds) as writer:
        for _ in range(4):
            obs, action = rng.normal(size=(12, 2)), rng.uniform(-1, 1, (12, 1))
            writer.append({"obs/obs": obs, "action": action, "reward": np.arange(12)})
    return path


@pytest.fixture(scope="module")
def run(toy, tmp_path_factory):
    root = tmp_path_factory.mktemp("skipping")
    data = write(root / "set", ActionBounds((-2.0,), (2.0,)))
    return fit("toyworld", data=data, eval_env=Walk, frame_skip=2, run=root / "run", **SMALL).directory


def test_who_acts_with_several_actions_in_one_records_every_row(run, tmp_path):
    collect(tmp_path / "set", policy=run, env=Walk, episodes=5, num_envs=2, max_episode_steps=5)
    made = open_dataset(tmp_path / "set")
    assert made.action_spec == ActionSpec("continuous", 1) and made.action_bounds == ActionBounds((-2.0,), (2.0,))
    assert set(made.episodes.lengths.tolist()) <= {5, 6}
    for i in range(5):
        rows = made.episode(i)
        np.testing.assert_allclose(rows["obs/obs"][:, 0], np.arange(len(rows["reward"])) / 10, rtol=1e-6)
        np.testing.assert_allclose(rows["obs/obs"][1:, 1], 2 * rows["action"][:-1, 0], atol=1e-6)
        assert rows["reward"].tolist() == [0.0] + [1.0] * (len(rows["reward"]) - 1)


def test_the_bounds_of_an_environment_of_several_actions_are_compared_with_the_datas(run, tmp_path):
    data = write(tmp_path / "set", ActionBounds((-5.0,), (5.0,)))
    with pytest.raises(ConfigurationError, match="from -5 to 5, those of the environment .* from -2 to 2"):
        fit("toyworld", data=data, eval_env=Walk, frame_skip=2, run=tmp_path / "run", **SMALL)


def test_no_agent_gives_several_actions_for_one(run):
    with pytest.raises(CapabilityError, match=r"2 steps in one.*make_env\(.*frame_skip=2\)"):
        Run.load(run, env=Walk).agent()


class Numbered:
    """Numbers its decisions; an action is the decision's number, and which of its steps it is."""

    latent_spec: dict = {}

    def initial(self, batch_size):
        return {"done": torch.zeros(batch_size)}

    def __call__(self, obs, carry, *, is_first, explore):
        done = torch.where(is_first, 0, carry["done"]) + 1
        steps = torch.arange(3).expand(len(done), 3)
        return torch.stack([done[:, None].expand(-1, 3), steps], 2).flatten(1), {"done": done}


def test_decisions_are_done_step_by_step_in_each_environment_by_itself():
    policy, begins = SingleSteps(Numbered(), frame_skip=3), [[1, 1], [0, 0], [0, 1], [0, 0], [0, 0], [0, 0]]
    carry, seen = policy.initial(2), []
    for first in begins:
        action, carry = policy({"obs": torch.zeros(2, 1)}, carry, is_first=torch.tensor(first).bool(), explore=False)
        seen.append(action.tolist())
    assert [one for one, _ in seen] == [[1, 0], [1, 1], [1, 2], [2, 0], [2, 1], [2, 2]]
    assert [other for _, other in seen] == [[1, 0], [1, 1], [1, 0], [1, 1], [1, 2], [2, 0]]
