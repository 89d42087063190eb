from __future__ import annotations

import torch
from torch import nn

from worldflux.blocks import compare_states


def test_equal_states_differ_in_nothing():
    one = {"a": torch.tensor([1.0, float("nan")]), "n": torch.tensor(3)}
    assert compare_states(one, {name: value.clone() for name, value in one.items()}) == []
    layer = nn.Linear(2, 3)
    assert compare_states(layer, layer.state_dict()) == []


def test_every_kind_of_difference_has_a_line():
    one = {"only": torch.ones(1), "shape": torch.ones(2), "dtype": torch.ones(2), "value": torch.zeros(3)}
    other = {"more": torch.ones(1), "shape": torch.ones(3), "dtype": torch.ones(2).half(), "value": torch.zeros(3)}
    other["value"] = torch.tensor([0.0, 0.5, -0.25])
    assert compare_states(one, other) == [
        "only: only in the first",
        "more: only in the second",
        "shape: shape (2,), then (3,)",
        "dtype: dtype torch.float32, then torch.float16",
        "value: 2 of 3 numbers differ, by up to 0.5",
    ]


def test_numbers_within_the_tolerance_do_not_differ():
    one, other = {"a": torch.tensor([1.0, 2.0])}, {"a": torch.tensor([1.0, 2.01])}
    assert compare_states(one, other, tolerance=0.02) == []
    assert compare_states(one, other, tolerance=0.001) == ["a: 1 of 2 numbers differ, by up to 0.01"]


def test_nan_and_infinity_are_named():
    one, other = {"a": torch.tensor([0.0, 1.0])}, {"a": torch.tensor([float("nan"), float("inf")])}
    assert compare_states(one, other)[0].startswith("a: 2 of 2 numbers differ")
