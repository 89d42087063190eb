from __future__ import annotations

import pytest
import torch

from worldflux.blocks import arrivals, forget, valid_steps
from worldflux.core.batch import Batch
from worldflux.core.errors import ValidationError


def batch(**fields) -> Batch:
    """Two sequences of four rows, numbered: row t sees t, was paid 10 t, and then does 100 t."""
    t = torch.arange(4.0).expand(2, 4)
    return Batch(obs={"obs": t[..., None]}, actions=100 * t[..., None], rewards=10 * t.double(), **fields)


FIRST = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0]]).bool()


def test_a_row_stands_beside_the_action_that_led_to_it():
    rows = arrivals(batch(is_last=FIRST, is_terminal=~FIRST))
    assert rows.obs["obs"][0, :, 0].tolist() == [1.0, 2.0, 3.0]
    assert rows.reward[0].tolist() == [10.0, 20.0, 30.0] and rows.reward.dtype == torch.float32
    assert rows.action[0, :, 0].tolist() == [0.0, 100.0, 200.0]
    assert torch.equal(rows.is_last, FIRST[:, 1:]) and torch.equal(rows.is_terminal, ~FIRST[:, 1:])


def test_from_nothing_the_first_row_counts_too():
    given = batch(is_first=FIRST)
    rows = arrivals(given, from_nothing=True)
    assert rows.action[1, :, 0].tolist() == [0.0, 0.0, 100.0, 200.0]
    assert rows.is_first.tolist() == [[True, False, True, False], [True, False, False, False]]
    assert rows.obs["obs"].shape == (2, 4, 1) and rows.reward.shape == (2, 4)
    assert not bool(given.is_first[1, 0])  # the batch stays as it was


def test_flags_that_a_batch_lacks_are_false_and_no_mask_is_none():
    rows = arrivals(batch())
    assert not bool((rows.is_first | rows.is_last | rows.is_terminal).any()) and rows.is_first.shape == (2, 3)
    assert rows.mask is None
    assert arrivals(batch(mask=FIRST)).mask.tolist() == [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_map_reaches_every_tensor():
    rows = arrivals(batch(mask=FIRST)).map(lambda value: value.transpose(0, 1))
    shapes = {name: value.shape for name, value in vars(rows).items() if name != "obs"}
    assert shapes.pop("action") == rows.obs["obs"].shape == (3, 2, 1)
    assert set(shapes.values()) == {(3, 2)}


def test_a_step_into_another_episode_does_not_count():
    assert valid_steps(batch()).tolist() == [[1.0] * 3] * 2
    assert valid_steps(batch(is_first=FIRST)).tolist() == [[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]]


def test_unbroken_steps_end_with_the_first_that_leaves_the_episode():
    assert valid_steps(batch(is_first=FIRST), unbroken=True).tolist() == [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]


def test_a_step_counts_only_between_two_rows_that_do():
    mask = torch.tensor([[1, 1, 0, 1], [0, 1, 1, 1]]).bool()
    assert valid_steps(batch(mask=mask)).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]


@pytest.mark.parametrize("read", [arrivals, valid_steps])
def test_one_row_is_no_step(read):
    one = Batch(obs={"obs": torch.zeros(2, 1, 1)}, actions=torch.zeros(2, 1, 1), rewards=torch.zeros(2, 1))
    with pytest.raises(ValidationError, match="at least 2 rows"):
        read(one)
    assert arrivals(one, from_nothing=True).is_first.tolist() == [[True], [True]]


def test_rows_without_rewards_are_refused():
    with pytest.raises(ValidationError, match="no rewards"):
        arrivals(Batch(obs={}, actions=torch.zeros(2, 3, 1)))


def test_what_is_forgotten_is_zero_whatever_it_was():
    carry = {"a": torch.tensor([[float("nan")], [2.0]]), "step": torch.tensor([5, 6])}
    kept = forget(carry, torch.tensor([True, False]))
    assert kept["a"].tolist() == [[0.0], [2.0]] and kept["step"].tolist() == [0, 6]
