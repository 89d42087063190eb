"""A replay that starts full of recorded episodes."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from worldflux.core.errors import BufferError
from worldflux.core.spec import ActionSpec, vector
from worldflux.data import BatchRequest, Dataset, EpisodeTable, Recording, Replay
from worldflux.data.filling import fill_replay


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
