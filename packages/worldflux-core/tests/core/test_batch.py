from dataclasses import replace

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
    with pytest.raises(ValidationError, match="exceeds the 5 stored steps"):
        batch(lengths={"obs": torch.tensor([5, 6])}).validate()


def test_lengths_hold_for_each_modality():
    with pytest.raises(ValidationError, match="exceeds the 5 stored steps"):
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
