"""Copies in other processes draw numbers of their own."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from worldflux.data import BatchRequest, as_provider
from worldflux.data.draws import Draws

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="workers are forked")


class Batches(IterableDataset):
    """Three batches of a provider, as what tells them apart."""

    def __init__(self, provider, number=3):
        self.provider, self.number = provider, number

    def __iter__(self):
        for _ in range(self.number):
            yield self.provider.sample(BatchRequest(4, 2)).obs


class Numbers(Dataset):
    def __len__(self):
        return 10_000

    def __getitem__(self, i):
        return {"obs": torch.full((2, 1), float(i))}


@pytest.fixture
def replay(make_replay, fill):
    def build(**options):
        built = make_replay(400, seed=3, latent_spec=None, **options)
        fill(built, 150)
        return built

    return build


def loaded(provider, number=3, workers=2):
    """What each worker drew, as lists of numbers."""
    loader = DataLoader(Batches(provider, number), batch_size=None, num_workers=workers, multiprocessing_context="fork")
    drawn = [(obs["obs"] if isinstance(obs, dict) else obs).flatten().tolist() for obs in loader]
    return [drawn[i::workers] for i in range(workers)]


def drawn_by(draws, queue):
    draws.settle()
    queue.put(draws.generator.integers(1 << 30, size=3).tolist())


@pytest.mark.parametrize("kind", ["replay", "dataset"])
def test_the_workers_of_a_loader_draw_different_batches(replay, kind):
    provider = replay() if kind == "replay" else as_provider(Numbers(), seed=3)
    first, second = loaded(provider)
    assert len(first) == len(second) == 3 and not any(one in second for one in first)


def test_the_same_seeds_give_workers_the_same_batches_and_epochs_others(replay):
    torch.manual_seed(5)
    first, again = loaded(replay()), loaded(replay())
    assert first != again
    torch.manual_seed(5)
    assert loaded(replay()) == first


def test_what_the_process_itself_draws_is_as_without_workers(replay):
    plain, used = replay(), replay()
    loaded(used)
    request = BatchRequest(5, 2)
    assert torch.equal(plain.sample(request).obs["obs"], used.sample(request).obs["obs"])


def test_fresh_blocks_are_given_once_over_all_workers(replay):
    provider = replay(online=True, sequence_length=2)
    fresh = len(provider._online)
    rows = np.array(loaded(provider, number=fresh // 8)).reshape(-1, 2)
    assert len(np.unique(rows[:, 0])) == len(rows) and len(rows) >= fresh - 8


def test_children_draw_from_streams_of_their_own():
    draws, context = Draws(1), multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=drawn_by, args=(draws, queue)) for _ in range(2)]
    for child in children:
        child.start()
    first, second = (queue.get(timeout=30) for _ in children)
    for child in children:
        child.join()
    assert first != second and draws.generator.integers(1 << 30, size=3).tolist() not in (first, second)


def test_a_fork_draws_from_a_stream_of_its_own():
    draws, (read, write) = Draws(1), os.pipe()
    if (child := os.fork()) == 0:
        draws.settle()
        os.write(write, str(draws.generator.integers(1 << 30)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as answer:
        assert int(answer.read()) != draws.generator.integers(1 << 30)


def test_a_copy_in_the_same_process_goes_on_where_the_original_is():
    draws = Draws(1)
    draws.generator.random()
    copy = pickle.loads(pickle.dumps(draws))
    assert copy.settle() is None and copy.generator.random() == draws.generator.random()


def test_a_state_that_is_loaded_is_gone_on_with_wherever_that_is(monkeypatch):
    draws, other = Draws(1), Draws(2)
    monkeypatch.setattr(os, "getpid", lambda: 12345)
    other.state = draws.state
    assert other.settle() is None and other.generator.random() == draws.generator.random()
