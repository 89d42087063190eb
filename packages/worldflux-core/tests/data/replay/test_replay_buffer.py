"""The earlier buffer: episodes as Gymnasium gives them."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from worldflux.core.errors import BufferError, CheckpointError, ConfigurationError, ShapeMismatchError
from worldflux.data import ReplayBuffer


def episode(steps=4, extra=0):
    obs = np.arange(steps + extra, dtype=np.float32)[:, None]
    return obs, -np.arange(steps, dtype=np.float32)[:, None], np.arange(steps, dtype=np.float32) + 1


def buffer(**options):
    return ReplayBuffer(100, obs_shape=(1,), action_dim=1, **options)


def test_rewards_move_to_the_row_they_lead_to():
    it = buffer()
    obs, actions, rewards = episode(4, extra=1)
    it.add_episode(obs, actions, rewards, np.array([0, 0, 0, 1]))
    batch = it.sample(1, 5)
    assert batch.obs[0, :, 0].tolist() == [0, 1, 2, 3, 4]
    assert batch.rewards[0].tolist() == [0, 1, 2, 3, 4]
    assert batch.actions[0, :4, 0].tolist() == [0, -1, -2, -3]
    assert batch.terminations[0].tolist() == [False] * 4 + [True]
    assert len(it) == 4 and it.num_episodes == 1


def test_the_last_reward_is_kept_where_the_last_observation_is_unknown():
    it = buffer()
    it.add_episode(*episode(3))
    batch = it.sample(1, 4)
    assert batch.obs[0, :, 0].tolist() == [0, 1, 2, 2] and batch.rewards[0].tolist() == [0, 1, 2, 3]
    assert batch.is_last[0, -1] and not batch.is_terminal.any()


def test_a_sequence_never_holds_two_episodes():
    it = buffer()
    for _ in range(5):
        it.add_episode(*episode(4))
    assert not it.sample(200, 3).is_first[:, 1:].any()
    with pytest.raises(BufferError, match="no episode has 6 rows"):
        it.sample(1, 6)


def test_a_bad_episode_is_refused_whole():
    it = buffer()
    obs, actions, rewards = episode(4)
    with pytest.raises(BufferError, match="'rewards' is not finite at step 2"):
        it.add_episode(obs, actions, np.array([0, 0, np.nan, 0]))
    with pytest.raises(ShapeMismatchError, match="rewards"):
        it.add_episode(obs, actions, rewards[:2])
    with pytest.raises(BufferError, match="done at step 1 of 4"):
        it.add_episode(obs, actions, rewards, np.array([0, 1, 0, 0]))
    with pytest.raises(BufferError, match="'obs' is not finite at step 3"):  # in float32
        it.add_episode(np.array([[0.0], [0.0], [0.0], [1e39]]), actions, rewards)
    with pytest.raises(BufferError, match="empty"):
        it.add_episode(obs[:0], actions[:0], rewards[:0])
    assert len(it) == 0


def test_a_saved_buffer_comes_back(tmp_path):
    it = buffer(seed=2)
    it.add_episode(*episode(4), np.array([0, 0, 0, 1]))
    it.add_episode(*episode(6))
    it.save(tmp_path / "buffer.npz")
    again = ReplayBuffer.load(tmp_path / "buffer.npz", seed=2)
    left, right = it.sample(50, 3), again.sample(50, 3)
    for name in ("obs", "rewards", "is_first", "is_last", "is_terminal"):
        assert torch.equal(getattr(left, name), getattr(right, name))
    assert (len(again), again.num_episodes, again.capacity) == (10, 2, 100)


def test_a_file_of_the_earlier_worldflux_is_read(tmp_path):
    obs, actions, rewards = (np.concatenate([part, part]) for part in episode(4))
    old = {"dones": np.array([0, 0, 0, 1] * 2), "obs_shape": [1], "action_dim": 1, "capacity": 50}
    np.savez(tmp_path / "old.npz", obs=obs, actions=actions, rewards=rewards, **old)
    it = ReplayBuffer.load(tmp_path / "old.npz")
    assert it.num_episodes == 2 and len(it) == 8
    np.savez(tmp_path / "full.npz", obs=obs, actions=actions, rewards=rewards, **{**old, "capacity": 8})
    assert len(ReplayBuffer.load(tmp_path / "full.npz")) == 8
    assert it.sample(1, 5).rewards[0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"\x80\x04K\x01."])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "buffer.npz"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a readable replay buffer"):
        ReplayBuffer.load(path)


def test_integers_are_not_wrapped():
    it = ReplayBuffer(100, obs_shape=(1,), action_dim=1, obs_dtype=np.uint8)
    _, actions, rewards = episode(2)
    with pytest.raises(BufferError, match="holds 300, more than uint8 can"):
        it.add_episode(np.array([[300], [1]], np.uint16), actions, rewards)


def test_a_capacity_is_a_whole_number():
    with pytest.raises(ConfigurationError, match="capacity must be a whole number, got 1000.0"):
        ReplayBuffer(1e3, obs_shape=(1,), action_dim=1)


def test_boolean_observations_are_stored_and_given_as_such(tmp_path):
    it = ReplayBuffer(50, (3,), 1, "bool")
    obs = np.arange(15).reshape(5, 3) % 2 == 0
    it.add_episode(obs, *episode(4)[1:])
    it.save(tmp_path / "buffer.npz")
    for one in (it, ReplayBuffer.load(tmp_path / "buffer.npz")):
        seen = one.sample(1, 5).obs
        assert seen.dtype == torch.bool and np.array_equal(seen[0], obs)


def test_an_episode_with_a_value_too_large_for_the_storage_is_refused_whole():
    it = ReplayBuffer(100, obs_shape=(1,), action_dim=1, obs_dtype=np.uint8)
    _, actions, rewards = episode(3)
    with pytest.raises(BufferError, match="holds 300, more than uint8 can"):
        it.add_episode(np.array([[1], [2], [300]], np.uint16), actions, rewards)
    assert len(it) == 0 and it.num_episodes == 0


@pytest.mark.parametrize("size", [None, 0, "4", 2.5])
def test_the_size_of_a_sample_is_a_whole_number(size):
    it = buffer()
    it.add_episode(*episode(4))
    with pytest.raises(ConfigurationError, match="batch_size must be a whole number"):
        it.sample(size, 2)


def test_a_large_file_is_stored_at_once_and_not_row_by_row(tmp_path):
    rows = 200_000
    arrays = {"obs": np.zeros((rows, 1), np.uint8), "actions": np.zeros((rows, 1), np.float32)}
    flags = {"dones": np.arange(rows) % 10 == 9, "rewards": np.zeros(rows, np.float32)}
    np.savez_compressed(tmp_path / "old.npz", **arrays, **flags, obs_shape=[1], action_dim=1, capacity=rows)
    begun = time.process_time()
    it = ReplayBuffer.load(tmp_path / "old.npz")
    assert time.process_time() - begun < 2 and len(it) == rows and it.num_episodes == rows // 10


def test_a_file_that_unpacks_to_more_than_a_quarter_of_the_memory_is_refused(tmp_path, monkeypatch):
    it = buffer()
    it.add_episode(*episode(40))
    it.save(tmp_path / "buffer.npz")
    monkeypatch.setattr("worldflux.data.npy.memory", lambda: 4000)
    with pytest.raises(CheckpointError, match="more than a quarter of this machine's memory"):
        ReplayBuffer.load(tmp_path / "buffer.npz")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dones": [0, 0, 1, 0, 0]}, "row 2 is done before its episode ends"),
        ({"capacity": 4}, "take 5 rows, its capacity is 4"),
        ({"rewards": np.zeros((5, 1))}, "rewards"),
        ({"obs": np.array([[0], [1], [np.nan], [3], [4.0]])}, "'obs' is not finite at step 2"),
    ],
)
def test_a_saved_buffer_that_no_episodes_could_have_made_is_refused(tmp_path, change, says):
    it = buffer()
    it.add_episode(*episode(4, extra=1))
    it.save(tmp_path / "buffer.npz")
    with np.load(tmp_path / "buffer.npz") as saved:
        np.savez(tmp_path / "other.npz", **{**saved, **change})
    with pytest.raises(CheckpointError, match=says):
        ReplayBuffer.load(tmp_path / "other.npz")
