"""A replay that starts full of recorded episodes."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from worldflux.core.errors import BufferError
from worldflux.core.spec import ActionSpec, ModalitySpec, vector
from worldflux.data import BatchRequest, Dataset, EpisodeTable, Recording, Replay
from worldflux.data.replay import fill_replay


def recorded(lengths, *, first=0):
    """Observation (episode, row); every second episode ended in truth."""
    row = np.concatenate([np.arange(n) for n in lengths])
    episode = np.repeat(np.arange(first, first + len(lengths)), lengths)
    columns = {
        "obs/state": np.stack([episode, row], 1).astype(np.float32),
        "action": row[:, None].astype(np.float32),
        "reward": episode.astype(np.float32),
    }
    table = EpisodeTable.of(range(len(lengths)), lengths, np.arange(len(lengths)) % 2 == 0)
    return Dataset(Recording("memory", Path("x"), {"state": vector(2)}, ActionSpec("continuous", 1), table, columns))


def replay(capacity, streams=1, **options):
    specs = {"obs_spec": {"state": vector(2)}, "action_spec": ActionSpec("continuous", 1)}
    return Replay(capacity, num_streams=streams, **specs, **options)


def test_episodes_follow_one_another_in_a_stream_as_they_were_recorded():
    buffer = replay(100)
    assert fill_replay(buffer, [recorded([3, 5]), recorded([2], first=2)]) == 10
    batch = buffer.sample(BatchRequest(200, 10))
    assert batch.obs["state"][0, :, 0].tolist() == [0] * 3 + [1] * 5 + [2] * 2
    assert batch.is_first[0].nonzero().flatten().tolist() == [0, 3, 8]
    assert batch.is_last[0].nonzero().flatten().tolist() == [2, 7, 9]
    assert batch.is_terminal[0].nonzero().flatten().tolist() == [2, 9]
    assert batch.rewards[0].tolist() == [0] * 3 + [1] * 5 + [2] * 2


def test_an_episode_stays_in_one_stream_and_only_the_last_of_one_is_cut(caplog):
    buffer = replay(100, streams=2)
    with caplog.at_level(logging.WARNING):
        kept = fill_replay(buffer, [recorded([4, 4, 5, 6])])
    assert kept == 2 * 9
    assert "1 of 19 recorded rows are not in the replay" in caplog.text
    batch = buffer.sample(BatchRequest(100, 9))
    for state, first, last in zip(batch.obs["state"], batch.is_first, batch.is_last, strict=True):
        begun = state[:, 1] == 0
        assert torch.equal(first, begun)  # whole from its first row on
        assert torch.equal(last[:-1], begun[1:])
        assert last[-1]


def test_what_does_not_fit_is_the_oldest_and_is_said(caplog):
    buffer = replay(10)
    with caplog.at_level(logging.WARNING):
        assert fill_replay(buffer, [recorded([4, 4, 5])]) == 9
    assert "4 of 13 recorded rows" in caplog.text
    assert buffer.sample(BatchRequest(1, 9)).obs["state"][0, :, 0].tolist() == [1] * 4 + [2] * 5


def test_latents_of_recorded_rows_are_zeros():
    latents = {"deter": ((3,), "float32"), "stoch": ((2,), "uint8")}
    buffer = replay(10, latent_spec=latents)
    fill_replay(buffer, [recorded([4])], latent_spec=latents)
    context = buffer.sample(BatchRequest(1, 4)).context
    assert context["deter"].shape == (1, 4, 3)
    assert not context["stoch"].any()


def test_only_an_empty_replay_is_filled():
    buffer = replay(20)
    fill_replay(buffer, [recorded([4])])
    with pytest.raises(BufferError, match="holds 4 rows already"):
        fill_replay(buffer, [recorded([4])])


def stretches(batch):
    """The rows of each episode, or piece of one, that the sequences of a batch hold: (episode, row, reward, flags)."""
    for i in range(len(batch.rewards)):
        first = batch.is_first[i].nonzero().flatten().tolist()
        for start, stop in zip(first, [*first[1:], batch.is_first.shape[1]], strict=True):
            yield batch.obs["state"][i, start:stop], batch.is_last[i, start:stop], batch.rewards[i, start:stop]


def all_rows(buffer, length):
    """Each stream whole, once."""
    batch = buffer.sample(BatchRequest(200, length))
    _, kept = np.unique(batch.extras["wf.replay.index"][:, 0].numpy(), return_index=True)
    assert len(kept) == buffer.num_streams
    names = ("actions", "rewards", "is_first", "is_last", "is_terminal")
    return type(batch)(
        obs={name: value[kept] for name, value in batch.obs.items()},
        **{name: getattr(batch, name)[kept] for name in names},
    )


@pytest.mark.parametrize(("lengths", "streams"), [([12], 4), ([11, 2], 3), ([3, 3, 3, 3, 3], 4), ([40, 1, 1], 2)])
def test_every_stream_is_filled_and_every_row_is_used_but_what_is_left_over(lengths, streams):
    buffer, total = replay(100, streams=streams), sum(lengths)
    assert fill_replay(buffer, [recorded(lengths)]) == total // streams * streams
    seen = set()
    for state, last, reward in stretches(all_rows(buffer, total // streams)):
        episode, rows = int(state[0, 0]), state[:, 1].int().tolist()
        assert state[:, 0].unique().numel() == 1  # within one episode
        assert rows == list(range(rows[0], rows[0] + len(rows)))
        assert last.tolist() == [False] * (len(rows) - 1) + [True]
        assert reward.tolist() == [0.0 if rows[0] else episode] + [episode] * (len(rows) - 1)
        assert not seen & {(episode, row) for row in rows}
        seen |= {(episode, row) for row in rows}
    assert len(seen) == len(buffer)


def test_a_piece_ends_in_truth_only_where_its_episode_does():
    buffer = replay(100, streams=3)
    fill_replay(buffer, [recorded([12])])
    batch = all_rows(buffer, 4)
    assert sorted(batch.obs["state"][batch.is_terminal][:, 1].tolist()) == [11]


def test_episodes_that_are_cut_are_said(caplog):
    with caplog.at_level(logging.WARNING):
        fill_replay(replay(100, streams=4), [recorded([12])])
    assert "in the middle of 3 of their episodes, so that all 4 are equally long" in caplog.text
    assert "num_envs=1" in caplog.text and "not in the replay" not in caplog.text


def test_of_an_episode_that_is_longer_than_the_replay_the_newest_rows_are_kept(caplog):
    buffer = replay(10, streams=2)
    with caplog.at_level(logging.WARNING):
        assert fill_replay(buffer, [recorded([4, 30])]) == 10
    assert "24 of 34 recorded rows" in caplog.text
    rows = all_rows(buffer, 5).obs["state"].reshape(-1, 2)
    assert sorted(rows[:, 1].tolist()) == list(range(20, 30)) and set(rows[:, 0].tolist()) == {1}


def test_a_set_larger_than_the_replay_fills_it():
    buffer = replay(100, streams=4)
    kept = fill_replay(buffer, [recorded([9] * 40)])
    assert kept == 96  # 11 whole episodes are 99 rows
    assert all_rows(buffer, 24).obs["state"][..., 0].min() == 29


def test_stacked_frames_of_a_piece_begin_with_it():
    frames = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((6, 3, 4, 4), np.uint8)
    stacks = np.concatenate([frames[[0, 0, 1, 2, 3, 4]], frames], 1)
    columns = {"obs/image": stacks, "action": np.zeros((6, 1), np.float32), "reward": np.zeros(6, np.float32)}
    spec, acts = {"image": ModalitySpec("image", (6, 4, 4), "uint8")}, ActionSpec("continuous", 1)
    recording = Recording("memory", Path("x"), spec, acts, EpisodeTable.of("a", [6]), columns)
    buffer = Replay(20, num_streams=2, obs_spec=spec, action_spec=acts, frame_stacks={"image": 2})
    assert fill_replay(buffer, [Dataset(recording)]) == 6
    batch = buffer.sample(BatchRequest(50, 3)).obs["image"][:, :, ::3, 0, 0]
    assert {str(one) for one in batch.tolist()} == {"[[0, 0], [0, 1], [1, 2]]", "[[3, 3], [3, 4], [4, 5]]"}
