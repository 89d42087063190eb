"""What comes into a model is checked once, at the door, and named where it is wrong."""

from dataclasses import replace

import pytest
import torch

from worldflux.core.batch import Batch
from worldflux.core.errors import ConfigurationError, ShapeMismatchError, StateError, ValidationError
from worldflux.core.payloads import ActionPayload, ActionSequence, ConditionPayload, WorldModelInput
from worldflux.core.state import State

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def seeing(registry, toy):
    """A model of the toy family for other observations or actions."""

    def build(**options):
        torch.manual_seed(0)
        return toy["model"](toy["config"](**options))

    return build


@pytest.fixture
def four(seeing):
    return seeing(action_spec={"kind": "discrete", "num_actions": 4})


@pytest.fixture
def two(seeing):
    return seeing(action_spec={"kind": "discrete", "num_actions": 2})


# --- observations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"obs": x}, lambda x: WorldModelInput({"obs": x})])
@pytest.mark.parametrize("entry", ["encode", "update", "observations"])
def test_observations_in_every_form_take_one_path(model, wrap, entry):
    obs = torch.randn(3, 4)
    enter = {
        "encode": model.encode,
        "update": lambda seen: model.update(model.initial_state(3), torch.zeros(3, 2), seen),
        "observations": model.observations,
    }[entry]
    plain, wrapped = enter(obs), enter(wrap(obs))
    name = "obs" if entry == "observations" else "z"
    assert torch.equal(plain[name], wrapped[name])


@pytest.mark.parametrize("shape", [(3, 5, 4), (1, 3, 5, 4)])
def test_an_observation_with_a_time_axis_is_no_row(model, shape):
    for enter in (model.encode, lambda obs: model.update(model.initial_state(3), torch.zeros(3, 2), obs)):
        with pytest.raises(ShapeMismatchError, match=r"observation 'obs' \(expected \('B', 4\)"):
            enter(torch.zeros(shape))


def test_a_number_that_is_none_is_named_with_its_modality_and_place(seeing):
    model = seeing(observation_modalities={"a": {"shape": (2,)}, "b": {"shape": (3,)}})
    seen = {"a": torch.zeros(4, 2), "b": torch.zeros(4, 3)}
    seen["b"][2, 1] = NAN
    with pytest.raises(ValidationError, match=r"observation 'b' is not finite at \[2, 1\]: nan"):
        model.encode(seen)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_no_infinity_is_a_number(model, value):
    with pytest.raises(ValidationError, match=r"not finite at \[0, 3\]"):
        model.encode(torch.tensor([[0, 0, 0, value]]))


def test_minus_infinity_is_for_models_that_say_it_marks_what_is_missing(model):
    model.missing_is_neginf = True
    assert model.observations(torch.tensor([[0, 0, 0, -INF]]))["obs"][0, 3] == -INF
    for value in (NAN, INF):
        with pytest.raises(ValidationError, match="not finite"):
            model.observations(torch.tensor([[0, 0, 0, value]]))


@pytest.mark.parametrize(
    ("declared", "given", "taken"),
    [
        ("bool", torch.bool, True),
        ("bool", torch.float32, True),
        ("bool", torch.int64, False),
        ("uint8", torch.uint8, True),
        ("int64", torch.int64, True),
        ("int64", torch.int32, False),
        ("int32", torch.int32, True),
        ("float32", torch.bool, False),
        ("float32", torch.int64, False),
        ("float32", torch.float64, True),
        ("float32", torch.float16, True),
    ],
)
def test_a_modality_has_its_declared_dtype_or_floats(seeing, declared, given, taken):
    model = seeing(observation_modalities={"obs": {"shape": (3,), "dtype": declared}})
    obs = torch.ones(2, 3).to(given)
    if taken:
        kept = model.observations(obs)["obs"].dtype
        assert kept == (torch.float32 if given.is_floating_point else given)
    else:
        with pytest.raises(ValidationError, match=rf"'obs' has dtype {given}, expected {declared}"):
            model.observations(obs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_floats_of_any_precision_become_those_of_the_weights(model, dtype):
    obs = torch.arange(8.0).reshape(2, 4)
    assert torch.equal(model.encode(obs.to(dtype))["z"], model.encode(obs)["z"])
    assert model.double().encode(obs)["z"].dtype == torch.float64


def test_observations_go_to_the_weights_device(model):
    seen = model.to("meta").observations(torch.zeros(2, 4))
    assert seen["obs"].device.type == "meta"


def test_an_input_is_not_written_to(model):
    obs = {"obs": torch.zeros(2, 4, dtype=torch.float64)}
    model.encode(obs)
    assert obs["obs"].dtype == torch.float64


# --- actions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [-1, 4, 300])
def test_an_index_out_of_range_is_named_as_given(four, index):
    state = four.encode(torch.zeros(3, 4))
    for given in (torch.tensor([0, index, 3]), ActionPayload("discrete", tensor=torch.tensor([0, index, 3]))):
        with pytest.raises(ValidationError, match=rf"out of range: {index}, expected 0 <= action < 4"):
            four.transition(state, given)
    with pytest.raises(ValidationError, match=rf"out of range: {index}, expected"):
        four.rollout(state, torch.tensor([[0, index, 3]]))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool, torch.float64])
@pytest.mark.parametrize("classes", [4, 2])
def test_a_one_hot_means_the_same_in_any_dtype(seeing, dtype, classes):
    """Also where as many rows as classes make a one-hot look like rows of indices."""
    model = seeing(action_spec={"kind": "discrete", "num_actions": classes})
    state = model.encode(torch.randn(2, 4))
    one_hot = torch.nn.functional.one_hot(torch.tensor([1, 0]), classes)
    floats, others = one_hot.float(), one_hot.to(dtype)
    expected = model.transition(state, floats)["z"]
    payload = ActionPayload("discrete", tensor=others)
    for given in (others, payload, torch.tensor([1, 0])):
        assert torch.equal(model.transition(state, given)["z"], expected)
        assert torch.equal(model.condition(state, given)["action"], floats)
    plan = torch.stack([floats, floats.flip(0)])
    imagined = model.rollout(state, plan).to_tensor("z")
    steps = ActionSequence(payloads=[ActionPayload("discrete", tensor=step) for step in plan.to(dtype)])
    for given in (plan.to(dtype), ActionSequence(tensor=plan.to(dtype)), steps, plan.argmax(-1)):
        assert torch.equal(model.rollout(state, given).to_tensor("z"), imagined)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.float64])
@pytest.mark.parametrize("classes", [4, 2])
def test_a_batchs_one_hots_mean_the_same_in_any_dtype(seeing, dtype, classes):
    model = seeing(action_spec={"kind": "discrete", "num_actions": classes})
    index = torch.tensor([[1, 0], [0, 1]])
    floats = torch.nn.functional.one_hot(index, classes).float()
    for given in (floats, floats.to(dtype), index):
        checked = model.checked(Batch(obs=torch.zeros(2, 2, 4), actions=given))
        assert torch.equal(checked.actions, floats)
        assert checked.actions.dtype == torch.float32


def test_indices_as_many_as_classes_are_indices(two):
    state = two.encode(torch.randn(2, 4))
    assert torch.equal(two.condition(state, torch.tensor([1, 1]))["action"], torch.tensor([[0.0, 1], [0, 1]]))


def test_booleans_are_no_indices(four):
    with pytest.raises(ShapeMismatchError, match="'discrete' actions"):
        four.transition(four.encode(torch.zeros(2, 4)), torch.tensor([True, False]))


@pytest.mark.parametrize("value", [NAN, INF])
def test_an_action_that_is_no_number_is_named(model, value):
    state, plan = model.encode(torch.zeros(3, 4)), torch.zeros(2, 3, 2)
    plan[1, 2, 0] = value
    for enter in (model.transition, model.condition, lambda s, a: model.update(s, a, torch.zeros(3, 4))):
        with pytest.raises(ValidationError, match=r"action is not finite at \[2, 0\]"):
            enter(state, plan[1])
    with pytest.raises(ValidationError, match=r"rollout actions is not finite at \[1, 2, 0\]"):
        model.rollout(state, plan)


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 5)])
def test_an_action_of_another_size_is_refused(model, shape):
    with pytest.raises(ShapeMismatchError):
        model.transition(model.encode(torch.zeros(2, 4)), torch.zeros(shape))


@pytest.mark.parametrize("given", [[0.0, 1.0], 3, "left", None])
def test_an_action_that_is_no_tensor_is_refused(model, given):
    with pytest.raises(ValidationError):
        model.transition(model.encode(torch.zeros(1, 4)), given)


# --- states ----------------------------------------------------------------------------------------


def entries(model):
    return {
        "transition": lambda state: model.transition(state, torch.zeros(2, 2)),
        "update": lambda state: model.update(state, torch.zeros(2, 2), torch.zeros(2, 4)),
        "decode": model.decode,
        "rollout": lambda state: model.rollout(state, torch.zeros(1, 2, 2)),
    }


STATES = {
    "another family's": (State({"deter": torch.zeros(2, 8)}), StateError, "no 'z', it has .*another family's"),
    "width": (State({"z": torch.zeros(2, 9)}), ShapeMismatchError, r"'z' \(expected \('B', 8\), got \(2, 9\)"),
    "time axis": (State({"z": torch.zeros(2, 3, 8)}), ShapeMismatchError, r"'z' \(expected \('B', 8\)"),
    "precision": (State({"z": torch.zeros(2, 8, dtype=torch.float64)}), StateError, "'z' is torch.float64"),
    "integers": (State({"z": torch.zeros(2, 8, dtype=torch.int64)}), StateError, "'z' is torch.int64"),
    "number": (State({"z": torch.full((2, 8), NAN)}), ValidationError, r"'z' is not finite at \[0, 0\]"),
    "empty": (State({}), StateError, "no tensors"),
    "list": (State({"z": [[0.0] * 8] * 2}), StateError, "'z' is a list, expected a Tensor"),
    "tensor": (torch.zeros(2, 8), StateError, "expected a State, got a Tensor: model.encode"),
    "none": (None, StateError, "expected a State, got a NoneType"),
    "leading axes": (State({"z": torch.zeros(2, 8), "y": torch.zeros(3, 1)}), ShapeMismatchError, "'y'"),
}


@pytest.mark.parametrize("entry", ["transition", "update", "decode", "rollout"])
@pytest.mark.parametrize("wrong", STATES)
def test_a_state_that_is_not_this_models_is_refused_everywhere(model, entry, wrong):
    state, error, message = STATES[wrong]
    with pytest.raises(error, match=message):
        entries(model)[entry](state)


def test_a_half_precision_state_of_a_mixed_precision_passes(model):
    model.check_state(State({"z": torch.zeros(2, 8, dtype=torch.bfloat16)}))


def test_more_observations_than_the_state_has_rows_are_refused(model):
    with pytest.raises(ShapeMismatchError, match=r"observations of the update \(expected 2, got 3\)"):
        model.update(model.initial_state(2), torch.zeros(2, 2), torch.zeros(3, 4))


# --- conditions ------------------------------------------------------------------------------------


UNREAD = {
    "goal": (ConditionPayload(goal=torch.zeros(2, 1)), "reads no condition 'goal', it reads .*leave it out"),
    "text": (ConditionPayload(text_condition=["a"]), "reads no condition 'text_condition'"),
    "extra": (ConditionPayload(extras={"wf.toy.other": torch.zeros(2, 1)}), r"undeclared keys \['wf.toy.other'\]"),
    "name": (ConditionPayload(extras={"scale": torch.zeros(2, 1)}), "need the namespaced format"),
    "shape": (ConditionPayload(extras={"wf.toy.scale": torch.zeros(2, 3)}), "shape mismatch"),
    "dtype": (ConditionPayload(extras={"wf.toy.scale": torch.zeros(2, 1).long()}), "dtype mismatch"),
    "dict": ({"goal": torch.zeros(2, 1)}, r"conditions is a dict, expected ConditionPayload\(goal="),
    "tensor": (torch.zeros(2, 1), "conditions is a Tensor"),
}


@pytest.mark.parametrize("entry", ["transition", "update", "decode", "rollout", "condition"])
@pytest.mark.parametrize("wrong", UNREAD)
def test_conditions_that_a_model_does_not_read_are_refused_everywhere(model, entry, wrong):
    given, message = UNREAD[wrong]
    state, action = model.initial_state(2), torch.zeros(2, 2)
    enter = {
        "transition": lambda: model.transition(state, action, given),
        "update": lambda: model.update(state, action, torch.zeros(2, 4), given),
        "decode": lambda: model.decode(state, given),
        "rollout": lambda: model.rollout(state, action[None], given),
        "condition": lambda: model.condition(state, action, given),
    }[entry]
    with pytest.raises(ValidationError, match=message):
        enter()


def test_conditions_that_it_reads_pass(model):
    given = ConditionPayload(extras={"wf.toy.scale": torch.ones(2, 1)})
    assert model.transition(model.initial_state(2), torch.zeros(2, 2), given)["z"].shape == (2, 8)


def test_a_part_may_read_what_its_model_does_not(model):
    class Steered:
        reads = ("goal", "wf.toy.wind")

        def condition(self, state, action, conditions=None):
            return {"action": action + conditions.goal + conditions.extras["wf.toy.wind"]}

    state, action = model.encode(torch.zeros(2, 4)), torch.zeros(2, 2)
    given = ConditionPayload(goal=torch.ones(2, 2), extras={"wf.toy.wind": torch.ones(2, 2)})
    expected = model.transition(state, action + 2)["z"]
    model.set_component("action_conditioner", Steered)
    assert torch.equal(model.transition(state, action, given)["z"], expected)
    with pytest.raises(ValidationError, match="no condition 'spatial', it reads .*'goal'"):
        model.transition(state, action, replace(given, spatial=torch.zeros(2, 1)))


# --- precision -------------------------------------------------------------------------------------


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_a_process_of_another_precision_is_refused_when_a_model_is_built(registry, toy, double):
    with pytest.raises(ConfigurationError, match=r"default dtype is torch.float64.*set_default_dtype\(torch.float32\)"):
        toy["model"](toy["config"]())


@pytest.mark.parametrize("entry", ["encode", "transition", "update", "decode", "rollout", "checked"])
def test_a_process_of_another_precision_is_refused_at_every_use(model, double, entry):
    state = State({"z": torch.zeros(2, 8, dtype=torch.float32)})
    enter = {
        **entries(model),
        "encode": lambda state: model.encode(torch.zeros(2, 4)),
        "checked": lambda state: model.checked(Batch(obs=torch.zeros(2, 3, 4), actions=torch.zeros(2, 3, 2))),
    }
    with pytest.raises(ConfigurationError, match="default dtype is torch.float64"):
        enter[entry](state)


# --- what an encoder returns -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (State({"e": torch.zeros(2, 8)}), r"must return State\(\{'z': \[..., 8\]\}\), got \['e'\]"),
        (State({"z": torch.zeros(2, 9)}), r"got z of shape \(2, 9\)"),
        (State({"z": torch.zeros(())}), r"got z of shape \(\)"),
        (torch.zeros(2, 8), "got Tensor"),
        (None, "got NoneType"),
    ],
)
def test_an_encoder_that_returns_something_else_is_named(model, returned, message):
    class Wrong:
        def encode(self, observations):
            return returned

    model.set_component("observation_encoder", Wrong())
    with pytest.raises(ConfigurationError, match=message):
        model.encoded({"obs": torch.zeros(2, 4)}, "z", 8)


def test_an_encoders_tensor_is_returned_as_it_is(model):
    obs = {"obs": torch.randn(2, 3, 4)}
    assert torch.equal(model.encoded(obs, "z", 8), model.observation_encoder.encode(obs)["z"])


def test_inside_a_compiler_no_number_is_looked_at(model, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert model.encode(torch.full((2, 4), NAN))["z"].isnan().all()


def test_a_door_may_be_mapped_over(model):
    obs = torch.randn(5, 2, 4)
    mapped = torch.func.vmap(lambda seen: model.encode(seen)["z"])(obs)
    torch.testing.assert_close(mapped, torch.stack([model.encode(seen)["z"] for seen in obs]))
