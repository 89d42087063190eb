"""What was saved is checked whole before anything is changed by it."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from worldflux.core.errors import CheckpointError
from worldflux.data import BatchRequest, EnvironmentSource, Replay, ReplayBuffer
from worldflux.envs import RandomPolicy, make_env


def as_saved(state):
    """The arrays and the page as a checkpoint gives them back."""
    arrays, meta = state
    return {name: np.array(array) for name, array in arrays.items()}, json.loads(json.dumps(meta))


def same(left, right):
    (a, m), (b, n) = left, right
    return m == n and a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


REPLAY = {
    "no queue": lambda a, m: a.pop("online/queue"),
    "no next row": lambda a, m: a.pop("online/next"),
    "a handle that was never given": lambda a, m: a.update({"online/queue": np.array([9000])}),
    "a negative handle": lambda a, m: a.update({"online/queue": np.array([-1])}),
    "a handle of a block that is not whole": lambda a, m: a.update({"online/queue": np.array([19])}),
    "handles that fall": lambda a, m: a.update({"online/queue": np.array([8, 0])}),
    "a queue of floats": lambda a, m: a.update({"online/queue": np.array([0.0])}),
    "a queue of two axes": lambda a, m: a.update({"online/queue": np.array([[0]])}),
    "next rows of other streams": lambda a, m: a.update({"online/next": np.zeros(3, np.int64)}),
    "a next row beyond the last": lambda a, m: a.update({"online/next": np.array([11, 0])}),
    "no run starts": lambda a, m: a.pop("run_start"),
    "run starts of floats": lambda a, m: a.update({"run_start": np.zeros(2)}),
    "run starts of other streams": lambda a, m: a.update({"run_start": np.zeros(3, np.int64)}),
    "a run that starts after the last row": lambda a, m: a.update({"run_start": np.array([0, 10])}),
    "a run that starts before the first row": lambda a, m: a.update({"run_start": np.array([-1, 0])}),
    "no observations": lambda a, m: a.pop("obs/obs"),
    "observations of another dtype": lambda a, m: a.update({"obs/obs": a["obs/obs"].astype(np.float64)}),
    "fewer rewards": lambda a, m: a.update({"reward": a["reward"][:, 1:]}),
    "no generator": lambda a, m: m.pop("rng"),
    "a generator without state": lambda a, m: m["rng"].pop("state"),
    "another generator": lambda a, m: m["rng"].update(bit_generator="MT19937"),
    "a generator's state of text": lambda a, m: m["rng"]["state"].update(state="7"),
    "a negative state": lambda a, m: m["rng"]["state"].update(state=-1),
    "no number of rows": lambda a, m: m.pop("rows"),
    "a negative number of rows": lambda a, m: m.update(rows=-10),
    "rows in text": lambda a, m: m.update(rows="10"),
    "half a row": lambda a, m: m.update(rows=10.5),
    "no capacity": lambda a, m: m.pop("stream_capacity"),
    "a capacity in text": lambda a, m: m.update(stream_capacity="20"),
    "another boundary": lambda a, m: m.update(boundary="within"),
    "no rows' layout": lambda a, m: m.pop("row"),
}


@pytest.mark.parametrize("what", REPLAY)
def test_a_damaged_replay_is_refused_before_anything_changes(make_replay, fill, what):
    saved, other = (make_replay(online=True, sequence_length=4, seed=seed) for seed in (0, 1))
    fill(saved, 10)
    arrays, meta = as_saved(saved.state_dict())
    other.load_state_dict(*copy.deepcopy((arrays, meta)))
    fill(other, 3, start=10)
    before = as_saved(other.state_dict())
    REPLAY[what](arrays, meta)
    with pytest.raises(CheckpointError, match="saved replay"):
        other.load_state_dict(arrays, meta)
    assert same(before, as_saved(other.state_dict()))


def test_latents_are_written_all_or_none(make_replay, fill):
    replay = make_replay()
    fill(replay, 8)
    batch, before = replay.sample(BatchRequest(2, 4)), as_saved(replay.state_dict())
    with pytest.raises(ValueError, match="unknown latent 'c'"):
        replay.update(batch, {"h": torch.ones(2, 4, 2), "c": torch.ones(2, 4, 2)})
    assert same(before, as_saved(replay.state_dict()))


def episodes(dtype=np.float32):
    buffer = ReplayBuffer(40, (2,), 1, dtype)
    for length in (3, 5):
        buffer.add_episode(np.ones((length + 1, 2), dtype), np.zeros((length, 1)), np.arange(length, dtype=np.float32))
    return buffer


@pytest.mark.parametrize(
    "what", [what for what in REPLAY if not {"queue", "next", "handle", "handles"} & set(what.split())]
)
def test_a_damaged_buffer_is_refused_before_anything_changes(what):
    other = episodes()
    arrays, meta = as_saved(other.state_dict())
    before = as_saved(other.state_dict())
    if what == "another boundary":
        meta["boundary"] = "cross"
    else:
        REPLAY[what](arrays, meta)
    with pytest.raises(CheckpointError, match="saved replay"):
        other.load_state_dict(arrays, meta)
    assert same(before, as_saved(other.state_dict()))


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.update(actions=d["actions"][:-2]),
        lambda d: d.update(is_last=d["is_last"][:-1]),
        lambda d: d.update(rewards=d["rewards"] * np.nan),
        lambda d: d.update(obs=d["obs"][:, :1]),
        lambda d: d.update(capacity=np.array(-3)),
        lambda d: d.update(obs_shape=np.array(["a"])),
    ],
)
def test_a_damaged_file_of_a_buffer_is_named(tmp_path, damage):
    path = tmp_path / "buffer.npz"
    episodes().save(path)
    with np.load(path) as file:
        data = dict(file)
    damage(data)
    np.savez(path, **data)
    with pytest.raises(CheckpointError, match="buffer.npz is not a readable replay buffer"):
        ReplayBuffer.load(path)


def test_a_file_with_damaged_bytes_is_named(tmp_path):
    path = tmp_path / "buffer.npz"
    episodes().save(path)
    raw = bytearray(path.read_bytes())
    for at in range(60, len(raw) - 400, 7):
        raw[at] ^= 255
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match="buffer.npz is not a readable replay buffer"):
        ReplayBuffer.load(path)


class Remembering(RandomPolicy):
    """A random policy that also counts."""

    def initial(self, batch_size):
        return {"count": torch.zeros(batch_size, 1)}

    def __call__(self, obs, carry, *, is_first, explore):
        action, carry = super().__call__(obs, carry, is_first=is_first, explore=explore)
        return action, {"count": carry["count"] + 1}


def collecting():
    env = make_env("CartPole-v1", num_envs=2)
    policy = Remembering(env.action_spec, seed=4)
    replay = Replay(100, obs_spec=env.obs_spec, action_spec=env.action_spec, num_streams=2)
    return EnvironmentSource(env, policy, replay, replay_ratio=8, random_steps=6)


SOURCE = {
    "no replay": lambda a, m: m.pop("replay"),
    "a damaged replay": lambda a, m: m["replay"].pop("rng"),
    "a replay that is cut": lambda a, m: a.pop("replay/run_start"),
    "no steps": lambda a, m: m.pop("env_steps"),
    "steps in text": lambda a, m: m.update(env_steps="12"),
    "no credit": lambda a, m: m.pop("credit"),
    "a credit that is no number": lambda a, m: m.update(credit=float("nan")),
    "no start": lambda a, m: m.pop("started"),
    "a start in text": lambda a, m: m.update(started="yes"),
    "no seed": lambda a, m: m.pop("env_seed"),
    "a negative seed": lambda a, m: m.update(env_seed=-1),
    "no statistics": lambda a, m: m.pop("statistics"),
    "statistics of other environments": lambda a, m: m["statistics"].update({"return": [0.0]}),
    "statistics that are no pairs": lambda a, m: m["statistics"].update(ended=[3]),
    "a random generator that is none": lambda a, m: m.update(random={"state": 3}),
    "a policy's generator that is none": lambda a, m: m.update(policy={"state": 3}),
    "no environments": lambda a, m: m.pop("env"),
    "environments in text": lambda a, m: m.update(env="CartPole-v1"),
    "no seed of the environments": lambda a, m: m["env"].pop("seed"),
    "no episodes": lambda a, m: m["env"].pop("episodes"),
    "an episode that was never begun": lambda a, m: m["env"].update(episodes=[0, 1]),
    "ends of other environments": lambda a, m: m["env"].update(over=[False]),
    "no actions": lambda a, m: a.pop("env/actions/1"),
    "actions of another size": lambda a, m: a.update({"env/actions/1": np.zeros((3, 5), np.float32)}),
    "actions that are no numbers": lambda a, m: a.update({"env/actions/0": a["env/actions/0"] * np.nan}),
    "no row": lambda a, m: a.pop("obs/obs"),
    "a row of other environments": lambda a, m: a.update({"obs/obs": np.zeros((1, 4), np.float32)}),
}


@pytest.mark.parametrize("what", SOURCE)
def test_a_damaged_source_is_refused_before_anything_changes(what):
    saved, other, untouched = collecting(), collecting(), collecting()
    for _ in range(12):
        saved.sample(BatchRequest(2, 3))
    for one in (other, untouched):
        one.sample(BatchRequest(2, 3))
    arrays, meta = as_saved(saved.state_dict())
    SOURCE[what](arrays, meta)
    with pytest.raises(CheckpointError, match="saved (source|replay|environments)"):
        other.load_state_dict(arrays, meta)
    for _ in range(12):
        left, right = (dict(one.sample(BatchRequest(2, 3)).tensors()) for one in (other, untouched))
        assert all(torch.equal(left[name], right[name]) for name in left)


def test_environments_of_others_that_cannot_take_their_state_are_named():
    saved, other = collecting(), collecting()
    saved.sample(BatchRequest(2, 3))
    other.env.load_state_dict = lambda arrays, meta: meta["nothing"]
    with pytest.raises(CheckpointError, match="its policy or environments cannot go on: KeyError"):
        other.load_state_dict(*saved.state_dict())
    assert len(other.replay) == 0


def test_a_carry_of_another_size_begins_new_episodes(caplog):
    saved, other = collecting(), collecting()
    for one in (saved, other):
        one.sample(BatchRequest(2, 3))
    arrays, meta = as_saved(saved.state_dict())
    arrays["carry/count"] = np.zeros((2, 7), np.float32)
    other.load_state_dict(arrays, meta)
    assert "new episodes begin" in caplog.text
    other.sample(BatchRequest(2, 3))
