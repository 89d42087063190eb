"""What a training is told of its replay: where it is, how large it may be, and what it keeps of stacked frames."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from worldflux.core.errors import ConfigurationError
from worldflux.data import BatchRequest, EnvironmentSource, Replay
from worldflux.envs import RandomPolicy, make_env
from worldflux.experiment.settings import Settings, make_plan
from worldflux.training import CollectConfig


def source_of(toy, directory: Path, **collect) -> EnvironmentSource:
    model = toy.ToyModel()
    env, config = toy.make_env(toy.Walk, num_envs=2), toy.options(directory)
    return toy.environment_source(
        model, env, training=config, collect=CollectConfig(**collect), policy=toy.Pusher(model)
    )


def bytes_of_a_row(toy, directory: Path) -> int:
    return source_of(toy, directory, replay_capacity=100).replay.nbytes // 100


def test_the_replay_is_as_large_as_its_bytes_allow(toy, tmp_path: Path) -> None:
    row = bytes_of_a_row(toy, tmp_path)
    assert source_of(toy, tmp_path, replay_bytes=f"{250 * row + 7}B").replay.capacity == 250


@pytest.mark.parametrize(("capacity", "rows"), [(100, 100), (1000, 250)])
def test_of_bytes_and_rows_the_less_counts_where_both_are_given(toy, tmp_path: Path, capacity: int, rows: int) -> None:
    size = f"{250 * bytes_of_a_row(toy, tmp_path)}B"
    assert source_of(toy, tmp_path, replay_bytes=size, replay_capacity=capacity).replay.capacity == rows


def test_a_plan_leaves_the_number_of_rows_to_the_bytes(toy) -> None:
    model = toy.ToyModel(defaults={"replay_capacity": 50})
    asked = {"model": "m", "env": "e", "steps": 3_000_000}
    assert make_plan(Settings.from_dict(asked), model).settings.replay_capacity == 50
    assert make_plan(Settings.from_dict({**asked, "replay_bytes": "8GB"}), model).settings.replay_capacity == 3_000_000


def test_mapped_files_are_on_the_disk_of_the_run(toy, tmp_path: Path) -> None:
    tier = source_of(toy, tmp_path / "run", replay_capacity=100, replay_storage="mmap").replay._tier
    assert tier._files._directory == tmp_path / "run"


def test_a_run_may_go_on_with_its_replay_elsewhere(toy, tmp_path: Path) -> None:
    stored = Settings.from_dict({"model": "m", "env": "e", "replay_storage": "ram"})
    changed = Settings.from_dict({**stored.asked(), "replay_storage": "mmap", "replay_bytes": "1GB"})
    assert changed.resuming(stored).replay_storage == "mmap"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("replay_bytes", "much", "replay_bytes is 'much'"), ("replay_storage", "disk", "replay_storage is 'disk'")],
)
def test_what_is_none_is_refused_by_name(name: str, value: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        CollectConfig(**{name: value})


class Screen(gym.Env):
    """Shows noise; an episode is 4 steps."""

    observation_space = gym.spaces.Box(0, 255, (4, 5, 3), np.uint8)
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self._frame(), {}

    def step(self, action):
        self.time += 1
        return self._frame(), 0.0, False, self.time == 4, {}

    def _frame(self):
        return self.np_random.integers(0, 256, (4, 5, 3), np.uint8)


def stacks_of(env, *, whole: bool = False) -> EnvironmentSource:
    replay = Replay(
        60, obs_spec=env.obs_spec, action_spec=env.action_spec, num_streams=2, sequence_length=4,
        frame_stacks=None if whole else env.frame_stacks,
    )  # fmt: skip
    return EnvironmentSource(env, RandomPolicy(env.action_spec, seed=3), replay, replay_ratio=4, seed=5)


def test_a_training_keeps_each_frame_of_stacked_environments_once(toy, tmp_path: Path) -> None:
    env = make_env(Screen, num_envs=2, frame_stack=3)
    model = toy.ToyModel()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worldflux.training.collect.check_environment", lambda model, env: None)
        source = toy.environment_source(
            model, env, training=toy.options(tmp_path), policy=RandomPolicy(env.action_spec, seed=0)
        )
    assert source.replay._stacks == {"obs": 3}


def test_collected_stacks_are_those_that_whole_rows_would_give_and_resume_from_them() -> None:
    single, whole = (stacks_of(make_env(Screen, num_envs=2, frame_stack=3), whole=way) for way in (False, True))
    request = BatchRequest(4, 4)
    for _ in range(20):  # the ring of 30 rows turns
        one, two = single.sample(request), whole.sample(request)
        assert torch.equal(one.obs["obs"], two.obs["obs"])
    later = stacks_of(make_env(Screen, num_envs=2, frame_stack=3))
    later.load_state_dict(*whole.state_dict())
    for _ in range(20):
        assert torch.equal(later.sample(request).obs["obs"], whole.sample(request).obs["obs"])
