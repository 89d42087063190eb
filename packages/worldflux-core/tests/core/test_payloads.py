import pytest
import torch

from worldflux.core.doors import action_tensor
from worldflux.core.errors import ShapeMismatchError, ValidationError
from worldflux.core.payloads import (
    PLANNER_HORIZON_KEY,
    PLANNER_SEQUENCE_KEY,
    ActionPayload,
    ActionSequence,
    ConditionPayload,
    normalize_planned_action,
)
from worldflux.core.spec import ActionPart, ActionSpec, ModalitySpec
from worldflux.planners import first_action

CONTINUOUS, DISCRETE = ActionSpec("continuous", 2), ActionSpec("discrete", 3, discrete=True, num_actions=3)


def plan(tensor, horizon):
    return ActionPayload(kind="continuous", tensor=tensor, extras={PLANNER_HORIZON_KEY: horizon})


@pytest.mark.parametrize(
    ("shape", "horizon", "expected"),
    [
        ((2,), 1, (1, 1, 2)),
        ((4, 2), 1, (1, 4, 2)),
        ((1, 4, 2), 1, (1, 4, 2)),
        ((5, 2), 5, (5, 1, 2)),
        ((5, 4, 2), 5, (5, 4, 2)),
    ],
)
def test_a_plan_becomes_time_batch_action(shape, horizon, expected):
    assert normalize_planned_action(plan(torch.zeros(shape), horizon)).tensor.shape == expected


@pytest.mark.parametrize("horizon", [True, 2.0, "2", 0, -1])
def test_a_horizon_is_an_integer_of_at_least_one(horizon):
    with pytest.raises(ValidationError, match="integer of at least 1"):
        normalize_planned_action(plan(torch.zeros(2, 2), horizon))


def test_a_horizon_must_agree_with_the_tensor():
    with pytest.raises(ValidationError, match="Horizon mismatch"):
        normalize_planned_action(plan(torch.zeros(4, 2), 3))


def test_v3_needs_a_horizon_and_v02_guesses_it():
    bare = ActionPayload(kind="continuous", tensor=torch.zeros(3, 1, 2))
    with pytest.raises(ValueError, match="Missing required planner metadata"):
        normalize_planned_action(bare)
    with pytest.warns(DeprecationWarning, match="missing extras"):
        assert len(normalize_planned_action(bare, api_version="v0.2")) == 3


def test_the_old_sequence_key_is_refused():
    old = plan(torch.zeros(1, 2), 1)
    old.extras[PLANNER_SEQUENCE_KEY] = [1]
    with pytest.raises(ValueError, match=r"removed in v0\.3"):
        normalize_planned_action(old)


def test_the_first_action_of_a_plan_has_horizon_one():
    tensor = torch.arange(10.0).reshape(5, 1, 2)
    step = first_action(plan(tensor, 5))
    assert step.extras[PLANNER_HORIZON_KEY] == 1
    assert torch.equal(step.tensor, tensor[0])


def test_a_payload_has_one_primary_representation():
    both = ActionPayload(kind="latent", tensor=torch.zeros(1), latent=torch.zeros(1))
    with pytest.raises(ValueError, match="only one primary representation"):
        both.validate()


def test_kind_none_carries_nothing():
    with pytest.raises(ValueError, match="kind 'none'"):
        ActionPayload(kind="none", tensor=torch.zeros(1)).validate()


def test_hybrid_is_refused_by_v3_and_warned_about_by_v02():
    with pytest.raises(ValueError, match="hybrid"):
        ActionPayload(kind="hybrid").validate()
    with pytest.warns(DeprecationWarning, match="hybrid"):
        ActionPayload(kind="hybrid").validate(api_version="v0.2")


def test_class_indices_become_one_hot():
    onehot = action_tensor(torch.tensor([[0, 2]]), (DISCRETE,), api_version="v3")
    assert onehot.tolist() == [[[1.0, 0, 0], [0, 0, 1.0]]]


def test_a_class_index_out_of_range_is_refused():
    with pytest.raises(ValidationError, match="out of range: 3"):
        action_tensor(torch.tensor([3]), (DISCRETE,), api_version="v3")


def test_another_action_size_is_refused_with_both_sizes():
    with pytest.raises(ShapeMismatchError, match=r"feature dim mismatch.*2.*5"):
        action_tensor(torch.zeros(1, 5), (CONTINUOUS,), api_version="v3")


def test_another_action_kind_is_refused():
    with pytest.raises(ValidationError, match="incompatible"):
        action_tensor(ActionPayload(kind="discrete", tensor=torch.zeros(1, 2)), (CONTINUOUS,), api_version="v3")


def test_a_union_accepts_its_variants_and_names_them_otherwise():
    union = (CONTINUOUS, DISCRETE)
    assert action_tensor(ActionPayload(kind="discrete", tensor=torch.tensor([1])), union, api_version="v3").shape == (
        1,
        3,
    )
    with pytest.raises(ValidationError, match="did not match any action union"):
        action_tensor(ActionPayload(kind="latent", latent=torch.zeros(1, 2)), union, api_version="v3")


def test_a_composite_action_takes_the_flat_vector():
    spec = ActionSpec("multi", parts=(ActionPart("move", "continuous", 2), ActionPart("grip", "discrete", 3)))
    assert [(part.name, place.start, place.stop) for part, place in spec.slices()] == [("grip", 0, 3), ("move", 3, 5)]
    payload = ActionPayload(kind="continuous", tensor=torch.zeros(4, 5))
    assert action_tensor(payload, (spec,), api_version="v3").shape == (4, 5)


@pytest.mark.parametrize(
    ("extras", "message"),
    [
        ({"scale": torch.ones(1)}, "namespaced format"),
        ({"wf.toy.other": torch.ones(1)}, "undeclared keys"),
        ({"wf.toy.scale": torch.ones(1).long()}, "dtype mismatch"),
        ({"wf.toy.scale": torch.ones(2)}, "shape mismatch"),
    ],
)
def test_condition_extras_are_checked(extras, message):
    schema = {"wf.toy.scale": ModalitySpec("vector", (1,))}
    with pytest.raises(ValueError, match=message):
        ConditionPayload(extras=extras).validate(allowed_extra_keys={"wf.toy.scale"}, extra_schema=schema)


def test_a_sequence_is_as_long_as_its_plan():
    assert len(ActionSequence(tensor=torch.zeros(5, 1, 2))) == 5
    assert len(ActionSequence(payloads=[ActionPayload()])) == 1
