import functools

import pytest
import torch

from worldflux.core.batch import Batch
from worldflux.core.errors import CapabilityError, ConfigurationError, ShapeMismatchError, StateError, ValidationError
from worldflux.core.payloads import (
    PLANNER_HORIZON_KEY,
    ActionPayload,
    ActionSequence,
    ConditionPayload,
    WorldModelInput,
)
from worldflux.core.spec import Capability
from worldflux.core.state import State


def test_tensor_dict_and_input_take_the_same_path(model):
    obs = torch.randn(3, 4)
    states = [model.encode(o)["z"] for o in (obs, {"obs": obs}, WorldModelInput({"obs": obs}))]
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


@pytest.mark.parametrize(
    ("obs", "error", "message"),
    [
        (torch.zeros(3, 5), ShapeMismatchError, r"expected \('B', 4\), got \(3, 5\)"),
        (torch.zeros(4), ShapeMismatchError, "batch axis is missing"),
        (torch.zeros(3, 4).long(), ValidationError, "dtype"),
        ({"ob": torch.zeros(3, 4)}, ValidationError, "missing required modalities.*Did you mean 'ob'"),
        ({"obs": torch.zeros(3, 4), "pose": torch.zeros(3, 2)}, ValidationError, r"unexpected modalities \['pose'\]"),
        ({"obs": [1.0]}, ValidationError, "expected a Tensor"),
        ([1.0], ValidationError, "tensor or a dict"),
    ],
)
def test_a_wrong_observation_is_named(model, obs, error, message):
    with pytest.raises(error, match=message):
        model.encode(obs)


def test_a_channels_last_image_says_how_to_move_the_channels(toy):
    config = toy["config"](observation_modalities={"image": {"shape": (3, 8, 8)}})
    with pytest.raises(ShapeMismatchError, match="movedim"):
        toy["model"](config).observations({"image": torch.zeros(2, 8, 8, 3)})


def test_modalities_must_share_their_leading_axes(registry, toy):
    config = toy["config"](observation_modalities={"a": {"shape": (2,)}, "b": {"shape": (3,)}})
    with pytest.raises(ShapeMismatchError, match="different leading axes"):
        toy["model"](config).encode({"a": torch.zeros(2, 2), "b": torch.zeros(3, 3)})


def test_a_rollout_has_one_more_state_than_actions(model):
    trajectory = model.rollout(model.encode(torch.randn(3, 4)), torch.randn(5, 3, 2))
    assert (len(trajectory), trajectory.horizon) == (6, 5)
    assert trajectory.rewards.shape == (5, 3)
    assert trajectory.to_tensor("z").shape == (6, 3, 8)


def test_rewards_belong_to_the_state_they_lead_to(model):
    trajectory = model.rollout(model.encode(torch.randn(3, 4)), torch.randn(2, 3, 2))
    assert torch.equal(trajectory.rewards[1], model.decode(trajectory.states[2]).preds["reward"])


def test_continues_are_probabilities(model):
    continues = model.rollout(model.encode(torch.randn(3, 4)), torch.randn(4, 3, 2)).continues
    assert ((continues > 0) & (continues < 1)).all()


def test_no_actions_give_the_initial_state_alone(model):
    assert len(model.rollout(model.encode(torch.randn(3, 4)), None)) == 1


def test_a_plan_may_be_a_payload_or_a_list_of_payloads(model):
    state, actions = model.encode(torch.randn(1, 4)), torch.randn(3, 1, 2)
    whole = ActionPayload(kind="continuous", tensor=actions, extras={PLANNER_HORIZON_KEY: 3})
    steps = ActionSequence(payloads=[ActionPayload(kind="continuous", tensor=a) for a in actions])
    expected = model.rollout(state, actions).to_tensor("z")
    assert torch.equal(model.rollout(state, whole).to_tensor("z"), expected)
    assert torch.equal(model.rollout(state, steps).to_tensor("z"), expected)


def test_a_rollout_refuses_other_batch_sizes(model):
    with pytest.raises(ShapeMismatchError, match="rollout actions"):
        model.rollout(model.encode(torch.randn(3, 4)), torch.randn(5, 2, 2))


def test_another_rollout_mode_is_refused(model):
    with pytest.raises(ValueError, match="teacher"):
        model.rollout(model.encode(torch.randn(1, 4)), torch.randn(1, 1, 2), mode="teacher")


def test_a_wrong_action_names_both_sizes(model):
    with pytest.raises(ShapeMismatchError, match="2.*7"):
        model.transition(model.encode(torch.randn(3, 4)), torch.zeros(3, 7))


@pytest.mark.parametrize("shape", [(2,), (4, 2), (3, 1, 2)])
def test_an_action_has_one_row_for_each_of_the_state(model, shape):
    with pytest.raises(ShapeMismatchError, match=r"expected \(3, 2\)"):
        model.transition(model.encode(torch.randn(3, 4)), torch.zeros(shape))


def test_an_action_of_another_precision_is_taken_in_the_models(model):
    following = model.transition(model.encode(torch.randn(3, 4)), torch.zeros(3, 2, dtype=torch.float64))
    assert following["z"].dtype == torch.float32


def test_an_action_that_is_no_tensor_is_refused(model):
    with pytest.raises(ValidationError, match="must be a Tensor or an ActionPayload, got ndarray"):
        model.transition(model.encode(torch.randn(3, 4)), torch.zeros(3, 2).numpy())


@pytest.mark.parametrize("action", [None, ActionPayload()])
def test_a_model_without_actions_goes_on_without_one(registry, toy, action):
    still = toy["model"](toy["config"](action_spec={"kind": "none"}))
    assert still.transition(still.encode(torch.randn(3, 4)), action)["z"].shape == (3, 8)


def test_a_plan_of_another_kind_is_refused(model):
    plan = ActionPayload(kind="token", tensor=torch.zeros(1, 2), extras={PLANNER_HORIZON_KEY: 1})
    with pytest.raises(ValidationError, match="'token' is incompatible"):
        model.rollout(model.encode(torch.randn(1, 4)), plan)


@pytest.mark.parametrize(("indices", "horizon"), [([0, 1, 3], 1), ([[0, 1, 3], [3, 1, 0]], 2)])
def test_a_plan_may_name_discrete_actions_by_their_index(registry, toy, indices, horizon):
    discrete = toy["model"](toy["config"](action_spec={"kind": "discrete", "num_actions": 4}))
    given = torch.tensor(indices)
    plan = ActionPayload(kind="discrete", tensor=given, extras={PLANNER_HORIZON_KEY: horizon})
    actions = discrete.rollout(discrete.encode(torch.randn(3, 4)), plan).actions
    assert torch.equal(actions.argmax(-1), given.reshape(horizon, 3))


def test_a_plan_without_steps_gives_the_initial_state_alone(model):
    assert len(model.rollout(model.encode(torch.randn(3, 4)), ActionSequence())) == 1


def test_a_rollout_without_actions_stays_on_the_models_device(registry, toy):
    elsewhere = toy["model"](toy["config"]()).to("meta")
    assert elsewhere.rollout(elsewhere.initial_state(3), None).actions.device.type == "meta"


def test_conditions_outside_the_contract_are_refused(model):
    wrong = ConditionPayload(extras={"wf.toy.other": torch.ones(1)})
    with pytest.raises(ValidationError, match="undeclared"):
        model.transition(model.encode(torch.randn(3, 4)), torch.zeros(3, 2), wrong)


def test_a_missing_capability_says_what_is_declared(model):
    with pytest.raises(CapabilityError, match="has no policy.*latent_dynamics"):
        model.policy()
    with pytest.raises(CapabilityError, match="'value'"):
        model.require(Capability.VALUE)


def test_an_unknown_capability_is_refused(model):
    with pytest.raises(ConfigurationError, match="unknown capability"):
        model.supports("flying")


def test_batches_are_held_to_the_contract(model):
    good = {"obs": torch.zeros(2, 5, 4), "actions": torch.zeros(2, 5, 2)}
    model.validate_batch_contract(Batch(**good))
    with pytest.raises(ValidationError, match="no 'actions'"):
        model.validate_batch_contract(Batch(obs=good["obs"]))
    with pytest.raises(ShapeMismatchError, match="batch actions"):
        model.validate_batch_contract(Batch(obs=good["obs"], actions=torch.zeros(2, 5, 3)))
    with pytest.raises(ValidationError, match=r"batch rewards is not finite at \[0, 1\]: nan"):
        model.validate_batch_contract(Batch(**good, rewards=torch.tensor([[0, float("nan"), 0, 0, 0]] * 2)))


@pytest.mark.parametrize("name", ["rewards", "is_first", "is_terminal", "mask"])
def test_what_has_one_number_a_row_has_no_further_axis(model, name):
    given = Batch(obs=torch.zeros(2, 5, 4), actions=torch.zeros(2, 5, 2), **{name: torch.zeros(2, 5, 1)})
    with pytest.raises(ShapeMismatchError, match=rf"batch {name} \(expected \('B', 'T'\), got \(2, 5, 1\)"):
        model.validate_batch_contract(given)


def test_states_are_held_to_the_contract(model):
    with pytest.raises(StateError, match="no 'z'"):
        model.validate_state_contract(State({"y": torch.zeros(2, 8)}))
    with pytest.raises(ShapeMismatchError, match="'z'"):
        model.validate_state_contract(State({"z": torch.zeros(2, 9)}))


def test_the_initial_state_is_zeros_of_the_contract(model):
    assert model.initial_state(3)["z"].shape == (3, 8)
    assert not model.initial_state(3)["z"].any()


@pytest.mark.parametrize("how", ["id", "class", "instance"])
def test_an_override_takes_the_actions_effect_away(model, toy, how):
    given = {"id": "toy.ignore_action", "class": toy["ignore"], "instance": toy["ignore"]()}[how]
    state, one, two = model.encode(torch.randn(1, 4)), torch.zeros(3, 1, 2), torch.ones(3, 1, 2)
    assert not torch.equal(model.rollout(state, one).to_tensor("z"), model.rollout(state, two).to_tensor("z"))
    model.set_component("action_conditioner", given)
    assert torch.equal(model.rollout(state, one).to_tensor("z"), model.rollout(state, two).to_tensor("z"))


def test_a_class_component_is_built_with_the_models_config(model, toy):
    model.set_component("dynamics_model", toy["dynamics"])
    assert model.dynamics_model.linear.in_features == 10
    assert "dynamics_model.linear.weight" in model.state_dict()


@pytest.mark.parametrize(
    ("slot", "value", "message"),
    [
        ("decodr", "toy.ignore_action", "Did you mean 'decoder'"),
        ("decoder", "toy.ignore_action", "is for slot 'action_conditioner'"),
        ("decoder", object(), "must have a method 'decode'"),
        ("decoder", "toy.ignore_actions", "Did you mean 'toy.ignore_action'"),
    ],
)
def test_a_wrong_override_is_named(model, slot, value, message):
    with pytest.raises(ConfigurationError, match=message):
        model.set_component(slot, value)


def test_a_device_has_one_generator_however_it_is_named(model, monkeypatch):
    made = []
    monkeypatch.setattr(torch, "Generator", lambda name: made.append(name) or torch._C.Generator())
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert model.generator("cuda") is model.generator(torch.device("cuda", 1))
    assert made == ["cuda:1"]


def test_random_states_of_an_absent_device_are_left_out(model, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    torch.rand(3, generator=model.generator())
    state = model.rng_state()
    model.set_rng_state({**state, "cuda:0": state["cpu"]})
    assert list(model.rng_state()) == ["cpu"]


def test_the_models_generator_is_its_own_and_restarts_from_its_seed(model):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = torch.rand(3, generator=model.generator())
    state = model.rng_state()
    second = torch.rand(3, generator=model.generator())
    assert torch.equal(torch.get_rng_state(), before)
    model.set_rng_state(state)
    assert torch.equal(torch.rand(3, generator=model.generator()), second)
    model.seed(model.config.seed)
    assert torch.equal(torch.rand(3, generator=model.generator()), first)


def test_a_class_whose_arguments_have_defaults_keeps_them(model):
    class Scaled:
        def __init__(self, scale=0.5):
            self.scale = scale

        def condition(self, state, action, conditions=None):
            return {"action": action * self.scale}

    model.set_component("action_conditioner", Scaled)
    assert model.action_conditioner.scale == 0.5


def test_any_callable_factory_builds_a_component(model, toy):
    model.set_component("dynamics_model", functools.partial(toy["dynamics"]))
    assert model.dynamics_model.linear.in_features == 10
