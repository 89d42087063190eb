"""A batch to learn from is checked at one door, and named where it is wrong."""

import pytest
import torch

from worldflux.core.batch import Batch
from worldflux.core.errors import ShapeMismatchError, ValidationError
from worldflux.core.output import LossOutput

NAN, INF = float("nan"), float("inf")


def batch(**changes):
    given = {"obs": torch.zeros(2, 3, 4), "actions": torch.zeros(2, 3, 2), "rewards": torch.zeros(2, 3)}
    return Batch(**{**given, **changes})


def hole(*shape):
    value = torch.zeros(shape)
    value.view(-1)[-1] = NAN
    return value


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"obs": None}, ValidationError, r"no 'obs'; this model needs \['obs', 'actions'\]"),
        ({"actions": None}, ValidationError, "no 'actions'"),
        ({"obs": [[1.0]]}, ValidationError, "observations must be a tensor or a dict of tensors, got list"),
        ({"obs": {"ob": torch.zeros(2, 3, 4)}}, ValidationError, "Did you mean 'ob'"),
        ({"obs": torch.zeros(2, 4)}, ShapeMismatchError, r"'obs' \(expected \('B', 'T', 4\), got \(2, 4\)"),
        ({"obs": torch.zeros(2, 3, 5)}, ShapeMismatchError, r"'obs' \(expected \('B', 4\), got \(2, 3, 5\)"),
        ({"obs": hole(2, 3, 4)}, ValidationError, r"observation 'obs' is not finite at \[1, 2, 3\]: nan"),
        ({"actions": hole(2, 3, 2)}, ValidationError, r"batch actions is not finite at \[1, 2, 1\]: nan"),
        ({"rewards": hole(2, 3)}, ValidationError, r"batch rewards is not finite at \[1, 2\]: nan"),
        ({"actions": [[0.0]]}, ValidationError, "action must be a Tensor or an ActionPayload, got list"),
        ({"actions": torch.zeros(2, 3, 5)}, ShapeMismatchError, r"batch actions \(continuous\)"),
        ({"actions": torch.zeros(2, 2)}, ShapeMismatchError, r"expected \('B', 'T', 2\), got \(2, 2\)"),
        ({"actions": torch.zeros(2, 4, 2)}, ShapeMismatchError, "time dimension mismatch between 'obs'"),
        ({"actions": torch.zeros(3, 3, 2)}, ShapeMismatchError, "'actions' batch size mismatch"),
        ({"rewards": [0.0, 1.0]}, ValidationError, r"batch rewards is a list, expected a Tensor \[B, T\]"),
        ({"is_first": [True]}, ValidationError, "batch is_first is a list"),
        ({"rewards": torch.zeros(2, 3, 1)}, ShapeMismatchError, r"batch rewards \(expected \('B', 'T'\)"),
        ({"is_terminal": torch.zeros(3)}, ShapeMismatchError, "batch is_terminal"),
    ],
)
def test_a_batch_that_is_not_what_a_model_learns_from_is_refused(model, changes, error, message):
    with pytest.raises(error, match=message):
        model.checked(batch(**changes))


@pytest.mark.parametrize("given", [None, {"obs": torch.zeros(2, 3, 4)}, torch.zeros(2, 3, 4)])
def test_what_is_no_batch_is_refused_with_what_makes_one(model, given):
    with pytest.raises(ValidationError, match="expected a Batch, got a .*as_batch"):
        model.checked(given)


def test_a_checked_batch_is_named_observations_flat_floats_and_boolean_flags(model):
    flags = torch.tensor([[1.0, 0.0, 0.0]] * 2)
    checked = model.checked(batch(rewards=torch.ones(2, 3).long(), is_first=flags, is_terminal=flags.int()))
    assert list(checked.obs) == ["obs"]
    assert (checked.is_first.dtype, checked.is_terminal.dtype) == (torch.bool, torch.bool)
    assert (checked.rewards.dtype, checked.actions.dtype) == (torch.float32, torch.float32)


def test_a_checked_batch_is_in_the_weights_precision_and_device(model):
    given = batch(obs=torch.zeros(2, 3, 4).double(), actions=torch.zeros(2, 3, 2).double(), is_last=torch.ones(2, 3))
    checked = model.checked(given)
    assert {value.dtype for _, value in checked.tensors()} == {torch.float32, torch.bool}
    assert {value.device.type for _, value in model.to("meta").checked(given).tensors()} == {"meta"}


def test_checking_leaves_the_given_batch_as_it_was(model):
    given = batch()
    model.checked(given)
    assert isinstance(given.obs, torch.Tensor)


def test_required_keys_may_lie_deep_in_a_batch(model):
    model.batch_keys = ("obs:obs", "extras.wf.toy.x")
    with pytest.raises(ValidationError, match="no 'extras.wf.toy.x'"):
        model.checked(Batch(obs={"obs": torch.zeros(2, 3, 4)}))


def test_missing_marks_of_minus_infinity_pass_in_observations_and_actions_but_not_in_rewards(model):
    model.missing_is_neginf = True
    gap = torch.full((2, 3, 2), -INF)
    assert torch.equal(model.checked(batch(actions=gap)).actions, gap)
    with pytest.raises(ValidationError, match="rewards is not finite"):
        model.checked(batch(rewards=torch.full((2, 3), -INF)))


def test_a_loss_that_passes_the_door_sees_what_was_checked(registry, toy):
    class Learner(toy["model"]):
        def loss(self, batch):
            batch = self.checked(batch)
            return LossOutput(batch.obs["obs"].sum() + batch.actions.sum())

    model = Learner(toy["config"]())
    assert model.loss(batch(obs=torch.ones(2, 3, 4))).loss == 24
