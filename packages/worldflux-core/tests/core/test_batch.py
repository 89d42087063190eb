from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch

from worldflux.core.batch import Batch
from worldflux.core.errors import ConfigurationError, ShapeMismatchError, ValidationError


def batch(**changes):
    fields = {"obs": torch.zeros(2, 5, 3), "actions": torch.zeros(2, 5, 1), "rewards": torch.zeros(2, 5)}
    return Batch(**{**fields, **changes})


def test_terminations_and_is_terminal_are_one_thing():
    old = batch(terminations=torch.tensor([[0.0, 0, 0, 0, 1]] * 2))
    assert old.is_terminal.dtype == torch.bool
    assert old.is_terminal[:, -1].all()
    assert batch(is_terminal=torch.ones(2, 5, dtype=torch.bool)).terminations is not None


def test_inputs_and_obs_are_one_thing():
    assert Batch(inputs=torch.zeros(2, 5, 3)).obs.shape == (2, 5, 3)


def test_earlier_names_follow_a_change_of_the_present_ones():
    changed = replace(batch(is_terminal=torch.zeros(2, 5)), obs=torch.ones(2, 5, 3), is_terminal=torch.ones(2, 5))
    assert changed.inputs.all()
    assert changed.terminations.all()
    changed.terminations = torch.zeros(2, 5, dtype=torch.bool)
    assert not changed.is_terminal.any()


EVERY_NAME = [field.name for field in fields(Batch)] + ["terminations", "inputs", "targets"]


@pytest.mark.parametrize("name", [name for name in EVERY_NAME if name != "strict_layout"])
def test_replacing_a_field_by_nothing_leaves_nothing(name):
    full = batch(
        is_terminal=torch.zeros(2, 5), target=torch.zeros(2), lengths={"obs": torch.ones(2)}, mask=torch.ones(2)
    )
    assert not getattr(replace(full, **{name: None}), name)


def test_replacing_under_an_earlier_name_changes_the_field():
    changed = replace(batch(is_terminal=torch.zeros(2, 5)), terminations=torch.ones(2, 5), inputs=torch.ones(2, 5, 3))
    assert changed.is_terminal.all()
    assert changed.obs.all()


def test_a_flag_set_later_is_boolean_too():
    changed = batch()
    changed.is_first = changed.terminations = torch.ones(2, 5)
    assert changed.is_first.dtype == changed.is_terminal.dtype == torch.bool


def test_layouts_and_lengths_may_be_stated_for_earlier_names():
    old = Batch(
        inputs=torch.zeros(2, 3, 4),
        terminations=torch.zeros(2, 3),
        layouts={"terminations": "BT"},
        lengths={"inputs": torch.tensor([3, 4])},
        strict_layout=True,
    )
    with pytest.raises(ValidationError, match="lengths of 'obs' exceed the 3"):
        old.validate()
    replace(old, lengths=None).with_layouts({"inputs": "BT..."}).validate()


def test_a_field_with_lengths_has_a_time_axis_of_its_own():
    batch(actions=torch.zeros(2, 4, 1), lengths={"actions": torch.tensor([4, 3])}).validate()


def test_a_batch_is_changed_inside_a_compiled_function():
    changed = torch.compile(lambda b: replace(b, is_terminal=b.rewards), backend="eager", fullgraph=True)(batch())
    assert changed.is_terminal.dtype == torch.bool


def test_arrays_are_kept_until_they_are_converted():
    assert set(Batch(obs=np.zeros((2, 5, 3))).to_dict()) == {"obs"}


def test_a_subclass_with_fields_of_its_own_can_be_made():
    @dataclass
    class Labelled(Batch):
        label: str = ""

    assert replace(Labelled(obs=torch.zeros(2, 5, 3), label="a"), label="b").label == "b"


def test_each_thing_is_copied_once_under_both_its_names():
    copied = []
    batch(target=torch.zeros(2), is_terminal=torch.zeros(2, 5)).map(lambda value: copied.append(value) or value)
    assert len(copied) == 5  # obs, actions, rewards, target, is_terminal
    assert (again := batch().clone()).inputs is again.obs


@pytest.mark.parametrize("name", ["is_first", "is_last", "is_terminal"])
def test_flags_are_booleans_however_they_are_given(name):
    assert getattr(batch(**{name: torch.tensor([[1.0, 0, 0, 0, 0]] * 2)}), name)[:, 0].all()
    assert getattr(batch(**{name: torch.zeros(2, 5)}), name).dtype == torch.bool


def test_a_good_batch_validates():
    batch().validate()
    assert batch().batch_size == 2


def test_another_batch_size_is_named():
    with pytest.raises(ShapeMismatchError, match="'rewards' batch size mismatch"):
        batch(rewards=torch.zeros(3, 5)).validate()


def test_another_time_length_is_named():
    with pytest.raises(ShapeMismatchError, match="time dimension mismatch between 'obs' and 'actions'"):
        batch(actions=torch.zeros(2, 4, 1)).validate()


def test_lengths_must_have_one_entry_per_sequence():
    with pytest.raises(ShapeMismatchError, match=r"lengths\['obs'\] batch size mismatch"):
        batch(lengths={"obs": torch.ones(3, dtype=torch.long)}).validate()


def test_lengths_must_not_exceed_the_stored_steps():
    with pytest.raises(ValidationError, match="exceed the 5 stored steps"):
        batch(lengths={"obs": torch.tensor([5, 6])}).validate()


def test_lengths_hold_for_each_modality():
    with pytest.raises(ValidationError, match="exceed the 5 stored steps"):
        batch(obs={"a": torch.zeros(2, 5, 3)}, lengths={"obs": torch.tensor([5, 6])}).validate()


def test_a_strict_layout_refuses_absent_fields():
    with pytest.raises(ValidationError, match="Unknown layout field 'speech'"):
        batch().with_layouts({"speech": "BT..."}, strict=True).validate()


def test_a_layout_moves_the_batch_axis():
    odd = Batch(obs=torch.zeros(7, 2, 3), layouts={"obs": "TB..."})
    assert odd.batch_size == 2


def test_unknown_fields_are_refused_with_the_nearest_name():
    with pytest.raises(ConfigurationError, match="Did you mean 'rewards'"):
        Batch.from_dict({"reward": torch.zeros(2, 5)})


def test_map_reaches_nested_observations():
    moved = batch(obs={"a": torch.zeros(2, 5, 3), "b": torch.zeros(2, 5, 1)}).map(lambda v: v + 1)
    assert moved.obs["b"].sum() == 10
    assert moved.rewards.sum() == 10


def test_earlier_names_are_taken_from_a_mapping():
    assert Batch.from_dict({"inputs": torch.zeros(2, 5, 3), "terminations": torch.ones(2, 5)}).is_terminal.all()


def test_from_dict_gives_back_to_dict():
    again = Batch.from_dict(batch(is_terminal=torch.ones(2, 5, dtype=torch.bool)).to_dict())
    assert again.is_terminal.all()
    assert again.obs.shape == (2, 5, 3)
