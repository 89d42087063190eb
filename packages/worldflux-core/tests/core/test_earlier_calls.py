"""Calls as code for 0.1.1 makes them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from worldflux import (  # noqa: E402
    ActionPayload,
    ActionSpec,
    CategoricalLatentSpace,
    ConditionPayload,
    ConfigurationError,
    LossOutput,
    ModalitySpec,
    ModelOutput,
    PredictionSpec,
    SequenceLayout,
    ShapeMismatchError,
    State,
    StateError,
    ValidationError,
    WorldModel,
    WorldModelConfig,
)
from worldflux.core import components  # noqa: E402
from worldflux.core.payloads import normalize_planned_action  # noqa: E402
from worldflux.earlier.options import of_today  # noqa: E402


class Bare(WorldModel):
    """Dynamics, and nothing else."""

    def __init__(self, config=None):
        super().__init__(config)
        self.dynamics_model = self

    def loss(self, batch):
        return LossOutput(torch.zeros(()))

    def advance(self, state, action, conditioned, *, deterministic):
        return State({"x": state["x"] + conditioned["action"][:, :2]})


def test_a_model_goes_without_config_and_conditioner():
    model = Bare()
    assert model.config == WorldModelConfig()
    assert torch.equal(model.transition(State({"x": torch.zeros(1, 2)}), torch.ones(1, 6))["x"], torch.ones(1, 2))
    with pytest.raises(ConfigurationError, match="config is 3, expected a WorldModelConfig"):
        Bare(3)


class Halving:
    def condition(self, state, action, conditions=None):
        return {"action": action.tensor / 2}


class Broken:
    def condition(self, state, action, conditions=None):
        return {"action": action.tensor + state.tensor}


def test_a_conditioner_that_reads_a_payload_is_given_one():
    model = Bare()
    model.set_component("action_conditioner", Halving())
    state, action = State({"x": torch.zeros(1, 2)}), torch.ones(1, 6)
    assert torch.equal(model.transition(state, action)["x"], torch.full((1, 2), 0.5))
    assert isinstance(model.action_conditioner, Halving)
    model.set_component("action_conditioner", Broken)
    with pytest.raises(AttributeError, match="'State' object has no attribute 'tensor'"):
        model.transition(state, action)


class Kinds:
    def condition(self, state, action, conditions=None):
        self.kind = action.kind
        return {"action": action.tensor}


def test_the_payload_is_of_the_models_kind_of_action():
    model = Bare(WorldModelConfig(obs_shape=(2,), action_spec={"kind": "discrete", "num_actions": 6}))
    model.set_component("action_conditioner", part := Kinds())
    model.transition(State({"x": torch.zeros(1, 2)}), torch.eye(6)[:1])
    assert part.kind == "discrete"


def test_a_conditioner_that_is_set_again_is_given_one_payload():
    model, part = Bare(), Halving()
    model.set_component("action_conditioner", part)
    once = part.condition
    model.set_component("action_conditioner", part)
    assert part.condition.args == once.args


def test_a_bad_state_is_a_validation_error():
    assert issubclass(StateError, ValidationError)
    assert issubclass(ShapeMismatchError, ValidationError)


def test_categorical_parameters_may_have_their_own_axes():
    space = CategoricalLatentSpace(4, 8)
    params = torch.randn(2, 4, 8)
    grouped, flat = space.sample(params, deterministic=True), space.sample(params.flatten(1), deterministic=True)
    assert grouped.shape == (2, 4, 8)
    assert torch.equal(grouped.flatten(1), flat)
    assert torch.equal(space.kl_divergence(params, -params), space.kl_divergence(params.flatten(1), -params.flatten(1)))
    with pytest.raises(ShapeMismatchError, match=r"\[..., 32\] or \[..., 4, 8\]"):
        space.sample(torch.zeros(2, 31))


def test_a_state_says_its_format():
    state = State({"x": torch.zeros(1, 2)})
    assert state.serialize(version="v1", format="binary") == state.serialize()
    with pytest.raises(StateError, match="not 'v2' in 'binary'"):
        state.serialize(version="v2")


def test_an_output_holds_what_is_stated():
    spec = PredictionSpec({"reward": ModalitySpec("vector", ())})
    output = ModelOutput(preds={"reward": torch.zeros(2)}, prediction_spec=spec, sequence_layout=SequenceLayout())
    output.validate()
    with pytest.raises(ValidationError, match=r"predictions \['reward'\] are stated, but there are only \[\]"):
        ModelOutput(prediction_spec=spec).validate()


def test_strict_conditions_are_refused_under_v0_2_too():
    given = ConditionPayload(extras={"speed": 1.0})
    with pytest.warns(DeprecationWarning, match="namespaced format"):
        given.validate(api_version="v0.2")
    with pytest.raises(ValidationError, match="namespaced format"):
        given.validate(strict=True, api_version="v0.2")


@pytest.mark.parametrize(("shape", "planned"), [((2,), (1, 1, 2)), ((3, 2), (3, 1, 2)), ((3, 4, 2), (3, 4, 2))])
def test_a_plan_without_horizon_is_read_as_it_was(shape, planned):
    with pytest.warns(DeprecationWarning, match="missing extras"):
        plan = normalize_planned_action(ActionPayload("continuous", torch.zeros(shape)), api_version="v0.2")
    assert plan.tensor.shape == planned


def test_hybrid_actions_warn_and_go_on_as_continuous_ones():
    with pytest.warns(DeprecationWarning, match="'hybrid' is gone"):
        ActionSpec(kind="hybrid", dim=2)
    with pytest.warns(DeprecationWarning, match="'hybrid' is gone|'v0.2' is deprecated"):
        given = of_today({"action_spec": {"kind": "hybrid", "dim": 2}}, "v0.2")
    assert given["action_spec"] == {"kind": "continuous", "dim": 2}
    with pytest.raises(ValidationError, match="'hybrid' is gone"):
        of_today({"action_type": "hybrid"}, "v3")


def test_components_can_be_asked_what_they_are():
    assert isinstance(Halving(), components.ActionConditioner)
    assert not isinstance(object(), components.DynamicsModel)


def test_an_earlier_option_beside_a_present_one_wins_over_the_layer_before():
    class Grown(WorldModelConfig):
        earlier_names = {"rate": "learning_rate"}

    assert Grown.from_dict({"learning_rate": 0.5}, {"rate": 0.25}).learning_rate == 0.25
    assert Grown(rate=0.125).learning_rate == 0.125
    assert Grown().with_overrides(rate=0.75).rate == 0.75
