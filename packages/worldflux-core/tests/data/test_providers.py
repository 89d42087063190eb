"""Whatever gives batches can be trained on."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from worldflux.core.batch import Batch
from worldflux.core.errors import BufferError, CheckpointError, ConfigurationError
from worldflux.data import BatchRequest, as_batch, as_provider


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
    with pytest.raises(BufferError, match="ended after 1 batch and cannot begin anew"):
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


@pytest.mark.parametrize("device", ["gpu", 3.5, None])
def test_a_device_that_is_none_is_refused(device):
    with pytest.raises(ConfigurationError, match="expected such as 'cpu'"):
        BatchRequest(2, 3, device)


def test_sizes_may_be_numbers_of_numpy():
    request = BatchRequest(np.int64(4), np.int32(3))
    assert type(request.batch_size) is type(request.seq_len) is int


class V1:
    def sample(self, batch_size, seq_len=None, device="cpu"):
        return batch()


@pytest.mark.parametrize("data", [[batch()], Rows(), V1()], ids=["iterable", "dataset", "earlier"])
@pytest.mark.parametrize(("request_", "hint"), [(4, "BatchRequest(4, seq_len)"), (None, "BatchRequest("), ("4", "'4'")])
def test_a_request_that_is_none_is_answered_with_the_next_step(data, request_, hint):
    with pytest.raises(ConfigurationError, match=re.escape(hint)):
        as_provider(data).sample(request_)


NUMBERS = np.arange(30, dtype=np.float32).reshape(2, 5, 3)
RECORDS = np.zeros((2, 5), [("flag", "?"), ("obs", "f4", (3,))])
RECORDS["obs"] = NUMBERS
READ_ONLY = NUMBERS.copy()
READ_ONLY.flags.writeable = False
VIEWS = {
    "backwards in time": NUMBERS[:, ::-1],
    "mirrored": NUMBERS[..., ::-1],
    "in Fortran's order": np.asfortranarray(NUMBERS),
    "of the other byte order": NUMBERS.astype(">f4"),
    "backwards, of the other byte order": NUMBERS.astype(">f4")[::-1],
    "read-only": READ_ONLY,
    "repeated": np.broadcast_to(NUMBERS[:1], (2, 5, 3)),
    "part of a packed record": RECORDS["obs"],
    "of more digits": NUMBERS.astype(np.float64),
    "whole numbers of the other byte order": NUMBERS.astype(">i2"),
    "booleans backwards": (NUMBERS > 7)[::-1],
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("give", [lambda a: {"obs": a}, lambda a: {"obs": {"a": a}}, lambda a: Batch(obs=a)])
def test_every_view_of_an_array_becomes_the_tensor_it_shows(name, give):
    obs = as_batch(give(VIEWS[name])).obs
    obs = obs["a"] if isinstance(obs, dict) else obs
    assert torch.equal(obs, torch.tensor(VIEWS[name].tolist(), dtype=obs.dtype))
    assert obs.numpy().dtype == VIEWS[name].dtype.newbyteorder("=")


@pytest.mark.parametrize("name", VIEWS)
def test_a_dataset_may_give_every_view_of_an_array(name):
    class Views(Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, i):
            return {"obs": VIEWS[name][1], "is_first": [True, False, False, False, False], "layouts": {"obs": "BT..."}}

    given = as_provider(Views()).sample(BatchRequest(3))
    assert torch.equal(given.obs, torch.tensor(VIEWS[name][1].tolist(), dtype=given.obs.dtype).expand(3, 5, 3))
    assert given.is_first.shape == (3, 5) and given.layouts == {"obs": "BT..."}


def test_an_array_that_torch_can_read_is_shared():
    array = NUMBERS.copy()
    assert as_batch({"obs": array}).obs.data_ptr() == array.ctypes.data
    given = batch()
    assert as_batch(given) is given


@pytest.mark.parametrize(
    "lists",
    [
        NUMBERS.tolist(),
        tuple(NUMBERS.tolist()),
        list(NUMBERS),
        list(NUMBERS[:, ::-1][:, ::-1]),
        [list(rows) for rows in NUMBERS],
        list(torch.tensor(NUMBERS)),
        [list(rows) for rows in torch.tensor(NUMBERS)],
    ],
)
def test_nested_lists_become_tensors(lists):
    given = as_batch({"obs": lists, "rewards": [[0, 1, 2, 3, 4.5]] * 2, "is_first": [[1, 0, 0, 0, 0]] * 2})
    assert torch.equal(given.obs, torch.tensor(NUMBERS))
    assert given.rewards.dtype == torch.float32 and given.is_first.dtype == torch.bool


@pytest.mark.parametrize(
    "obs",
    [[[1.0], [1.0, 2.0]], np.array([["a"]]), np.array([[None]]), [torch.zeros(2), torch.zeros(3)], [np.zeros(2), [1]]],
)
def test_what_makes_no_tensor_is_named(obs):
    with pytest.raises(ConfigurationError, match=r"'obs\.a' is a .* that makes no tensor"):
        as_batch({"obs": {"a": obs}})


def test_text_beside_the_numbers_is_left_alone():
    given = as_batch({"obs": NUMBERS, "conditions": {"text": ["left", "right"]}, "layouts": {"obs": "BT..."}})
    assert given.conditions == {"text": ["left", "right"]} and given.layouts == {"obs": "BT..."}


def test_sequences_that_do_not_stack_are_refused():
    class Ragged(Rows):
        def __getitem__(self, i):
            return {"obs": np.zeros((i + 1, 1), np.float32)}

    with pytest.raises(ConfigurationError, match="do not stack to a batch"):
        as_provider(Ragged()).sample(BatchRequest(20))


@pytest.mark.parametrize("meta", [{}, {"given": -1}, {"given": "2"}, {"rng": {}}, {"rng": 3}])
@pytest.mark.parametrize("data", [[batch()], Rows()], ids=["iterable", "dataset"])
def test_a_damaged_state_of_a_provider_is_refused(data, meta):
    with pytest.raises(CheckpointError, match="saved (iterable|dataset)"):
        as_provider(data).load_state_dict({}, meta)
