from __future__ import annotations

import pytest
import torch
from torch import nn

from worldflux.blocks import (
    KnownActions,
    PlainActions,
    action_in,
    folded,
    joined_vectors,
    split_modalities,
    symlog,
    unfit,
    unusable,
)
from worldflux.core.spec import ActionPart, ActionSpec, ModalitySpec
from worldflux.core.state import State

IMAGE, VECTOR = ModalitySpec("image", (3, 64, 64), "uint8"), ModalitySpec("vector", (2,))


def test_images_and_the_rest_are_told_apart_and_sorted():
    given = {"z": IMAGE, "b": VECTOR, "a": ModalitySpec("other", ()), "c": IMAGE}
    assert split_modalities(given) == (["c", "z"], ["a", "b"])


def test_modalities_that_fit_give_no_reason():
    assert unfit({"z": IMAGE, "b": VECTOR}, reserved=("reward",), image_size=(64, 64)) == ""


@pytest.mark.parametrize(
    ("modalities", "message"),
    [
        ({"reward": VECTOR}, "observation 'reward' needs another name: no dots, none of ['reward']"),
        ({"a.b": VECTOR}, "observation 'a.b' needs another name"),
        ({"": VECTOR}, "observation '' needs another name: it is empty"),
        ({"training": VECTOR}, "observation 'training' needs another name: torch's modules have a 'training'"),
        ({"said": ModalitySpec("text", (8,))}, "observation 'said' is of kind 'text', expected 'image', 'vector'"),
        (
            {"z": ModalitySpec("image", (3, 32, 64))},
            "image 'z' must have 64x64 pixels, got 32x64: resize it (image_size=64, --",
        ),
    ],
)
def test_a_modality_that_does_not_fit_is_named_with_the_reason(modalities, message):
    assert unfit(modalities, reserved=("reward",), image_size=(64, 64)).startswith(message)


@pytest.mark.parametrize(
    "name",
    ["training", "_modules", "_parameters", "_buffers", "type", "forward", "keys", "__class__", "call_super_init"],
)
def test_a_name_that_no_module_can_hold_is_unusable(name):
    assert unusable(name)
    with pytest.raises(KeyError):
        nn.ModuleDict({name: nn.Identity()})


@pytest.mark.parametrize("name", ["obs", "weight", "position 2", "ü"])
def test_any_other_name_can_be_held(name):
    assert unusable(name) == ""
    nn.ModuleDict({name: nn.Identity()})


def test_where_no_layers_are_named_by_observations_any_name_will_do():
    assert unusable("training", layers=False) == ""
    assert unusable("a.b", layers=False)


def test_vectors_of_any_rank_are_joined_in_the_order_given():
    seen = {"scalar": torch.full((2, 3), 7, dtype=torch.int64), "matrix": torch.arange(24.0).reshape(2, 3, 2, 2)}
    joined = joined_vectors(seen, {"matrix": 2, "scalar": 0})
    assert joined.dtype == torch.float32 and joined[1, 2].tolist() == [20.0, 21.0, 22.0, 23.0, 7.0]


def test_each_vector_is_changed_by_itself():
    seen = {"a": torch.tensor([[1.0, -1.0]]), "b": torch.tensor([[5.0, 3.0]])}
    assert joined_vectors(seen, {"a": 1, "b": 1}, lambda v: v - v.mean(-1, keepdim=True)).tolist() == [[1, -1, 1, -1]]
    torch.testing.assert_close(joined_vectors(seen, {"b": 1}, symlog), symlog(seen["b"]))


def test_leading_axes_are_folded_for_a_function_and_come_back():
    shapes = []
    for lead in ((), (5,), (2, 3)):
        found = folded(lambda x: shapes.append(x.shape) or x[:, 0], torch.zeros(*lead, 3, 8, 8), rank=3)
        assert found.shape == (*lead, 8, 8)
    assert shapes == [(1, 3, 8, 8), (5, 3, 8, 8), (6, 3, 8, 8)]


def test_plain_actions_are_passed_on_as_they_are():
    action = torch.ones(2, 3)
    assert PlainActions().condition(State({"z": torch.zeros(2, 1)}), action)["action"] is action


def test_a_part_of_an_action_that_is_missing_counts_as_zeros():
    parts = (ActionPart("a", "continuous", 2), ActionPart("b", "continuous", 1))
    known = KnownActions(ActionSpec("multi", 3, parts=parts))
    given = torch.tensor([[1.0, -torch.inf, 3.0], [1.0, 2.0, -torch.inf]])
    state = State({"z": torch.zeros(2, 1)})
    assert known.condition(state, given)["action"].tolist() == [[0.0, 0.0, 3.0], [1.0, 2.0, 0.0]]


def test_without_an_action_nothing_is_done():
    latent = torch.ones(2, 5, 4)
    assert torch.equal(action_in({}, like=latent, size=3), torch.zeros(2, 5, 3))
    assert torch.equal(action_in({"action": latent}, like=latent, size=3), latent)
