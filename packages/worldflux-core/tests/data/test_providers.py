"""Whatever gives batches can be trained on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from worldflux.core.batch import Batch
from worldflux.core.errors import BufferError, ConfigurationError
from worldflux.data import BatchRequest, as_provider


def batch(value=0.0, size=2):
    return Batch(obs=torch.full((size, 3, 1), value), actions=torch.zeros(size, 3, 1))


class Rows(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, i):
        return {"obs": np.full((3, 1), i, np.float32), "actions": np.zeros((3, 1), np.float32)}


def test_a_provider_of_one_argument_gets_the_request():
    class Source:
        def sample(self, request):
            return batch(size=request.batch_size)

    source = Source()
    assert as_provider(source) is source


def test_a_provider_of_three_arguments_gets_them_by_name():
    class Source:
        def sample(self, batch_size, seq_len=None, device="cpu"):
            assert (seq_len, device) == (7, "cpu")
            return {"obs": np.zeros((batch_size, 7, 1), np.float32)}

        def metrics(self):
            return {"a": 1}

    provider = as_provider(Source())
    assert provider.sample(BatchRequest(5, 7)).obs.shape == (5, 7, 1)
    assert provider.metrics() == {"a": 1} and not hasattr(provider, "update")


def test_iterables_are_begun_anew_when_they_end():
    provider = as_provider([batch(1.0), batch(2.0).to_dict()])
    assert [float(provider.sample(BatchRequest(2)).obs[0, 0, 0]) for _ in range(5)] == [1, 2, 1, 2, 1]


def test_a_loader_is_an_iterable_of_batches():
    provider = as_provider(DataLoader(Rows(), batch_size=4))
    assert [len(provider.sample(BatchRequest(4)).obs) for _ in range(4)] == [4, 4, 2, 4]


def test_one_batch_is_given_again_and_again():
    given = batch(3.0)
    provider = as_provider(given)
    assert provider.sample(BatchRequest(2)).obs is not None
    assert torch.equal(provider.sample(BatchRequest(2)).obs, given.obs)


def test_an_iterator_that_ends_says_so():
    provider = as_provider(iter([batch()]))
    provider.sample(BatchRequest(2))
    with pytest.raises(BufferError, match="ended after 1 batches and cannot begin anew"):
        provider.sample(BatchRequest(2))
    with pytest.raises(BufferError, match="gave no batch"):
        as_provider([]).sample(BatchRequest(2))


def test_a_dataset_of_sequences_is_drawn_and_stacked():
    provider, same = as_provider(Rows(), seed=1), as_provider(Rows(), seed=1)
    first = provider.sample(BatchRequest(50))
    assert first.obs.shape == (50, 3, 1) and set(first.obs[:, 0, 0].tolist()) == set(range(10))
    assert torch.equal(first.obs, same.sample(BatchRequest(50)).obs)


@pytest.mark.parametrize("make", [lambda: as_provider(Rows()), lambda: as_provider([batch(i) for i in range(3)])])
def test_a_restored_provider_goes_on_with_the_next_batch(make):
    one, two = make(), make()
    for _ in range(4):
        one.sample(BatchRequest(3))
    two.load_state_dict(*one.state_dict())
    assert torch.equal(one.sample(BatchRequest(3)).obs, two.sample(BatchRequest(3)).obs)


@pytest.mark.parametrize("data", [7, "CartPole-v1", torch.zeros(3), None])
def test_what_gives_no_batches_is_refused(data):
    with pytest.raises(ConfigurationError, match=f"cannot train on {type(data).__name__}"):
        as_provider(data)


def test_items_that_are_no_batches_are_refused():
    with pytest.raises(ConfigurationError, match="expected a Batch or a mapping"):
        as_provider([3]).sample(BatchRequest(2))
    with pytest.raises(ConfigurationError, match="unknown batch field 'reward'.*'rewards'"):
        as_provider([{"reward": torch.zeros(2, 3)}]).sample(BatchRequest(2))


@pytest.mark.parametrize("sizes", [(0, 1), (2, 0), (2.5, 1), (True, 1)])
def test_sizes_are_whole_numbers(sizes):
    with pytest.raises(ConfigurationError, match="whole number"):
        BatchRequest(*sizes)
