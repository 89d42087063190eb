"""What a family states and writes behind the doors, and what the base makes of it."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from worldflux.core.batch import Batch
from worldflux.core.config import WorldModelConfig
from worldflux.core.errors import CapabilityError, ConfigurationError, ShapeMismatchError, ValidationError
from worldflux.core.model import WorldModel
from worldflux.core.output import LossOutput
from worldflux.core.payloads import ConditionPayload
from worldflux.core.spec import (
    ActionSpec,
    Capability,
    ConditionSpec,
    ModalityKind,
    ModelIOContract,
    PredictionSpec,
    SequenceLayout,
    StateSpec,
    decoded,
    vector,
)
from worldflux.core.state import State
from worldflux.recipe import Recipe


@dataclass
class RecurrentConfig(WorldModelConfig):
    model_type: str = "recurrent"
    obs_shape: tuple[int, ...] = (4,)
    action_dim: int = 2
    units: int = 3


class Pass:
    def condition(self, state, action, conditions=None):
        return {"action": action}


class Embed(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.linear = nn.Linear(4, config.units)

    def encode(self, observations):
        return State({"embed": self.linear(observations["obs"])})


class OtherEmbed(Embed):
    pass


class Recurrent(WorldModel):
    """Remembers in ``h``, counts its steps in ``ticks``, and may carry a task."""

    config_class = RecurrentConfig
    capabilities = frozenset({Capability.LATENT_DYNAMICS})
    batch_keys = ("obs", "actions", "is_first")
    optional_state = ("task",)

    def __init__(self, config):
        super().__init__(config)
        self.observation_encoder, self.action_conditioner = Embed(config), Pass()
        self.cell = nn.Linear(config.units + 2, config.units)
        self.register_buffer("scale", torch.zeros(()))
        self.calls = 0
        self.initialise()

    def initialise(self):
        generator = torch.Generator().manual_seed(self.config.seed)
        for weight in self.parameters():
            nn.init.uniform_(weight, 1, 2, generator=generator)

    def state_spec(self):
        self.calls += 1
        tensors = {"h": vector(self.config.units), "ticks": vector(dtype="int64"), "task": vector(2)}
        return StateSpec(tensors)

    def prediction_spec(self):
        return PredictionSpec({**decoded(self.config.modalities), "reward": vector()})

    def condition_spec(self):
        return ConditionSpec({"goal": vector(2), "wf.toy.wind": vector(1)}, ("wf.toy.free",))

    def training_defaults(self):
        return Recipe(batch_size=3)

    def begin(self, obs, *, deterministic):
        return self.correct(*self.before_anything(obs), obs, deterministic=deterministic)

    def advance(self, state, action, conditioned, *, deterministic):
        h = torch.tanh(self.cell(torch.cat([state["h"], conditioned["action"]], -1)))
        return State({**state.tensors, "h": h, "ticks": state["ticks"] + 1})

    def correct(self, state, action, conditioned, obs, *, deterministic):
        ahead = self.advance(state, action, conditioned, deterministic=deterministic)
        seen = self.encoded(obs, "embed", self.config.units)
        return State({**ahead.tensors, "h": ahead["h"] + seen})

    def loss(self, batch):
        batch = self.checked(batch)
        return LossOutput(self.encoded(batch.obs, "embed", self.config.units).square().mean())


@pytest.fixture
def recurrent():
    return Recurrent(RecurrentConfig())


# --- the contract ----------------------------------------------------------------------------------


def test_the_contract_is_what_a_family_states(recurrent):
    config = recurrent.config
    assert recurrent.io_contract() == ModelIOContract(
        observation_spec=type(recurrent.io_contract().observation_spec)(config.modalities),
        action_spec=ActionSpec("continuous", 2),
        state_spec=recurrent.state_spec(),
        prediction_spec=recurrent.prediction_spec(),
        sequence_layout=SequenceLayout({"obs": "BT...", "actions": "BT...", "is_first": "BT..."}),
        required_batch_keys=("obs", "actions", "is_first"),
        required_state_keys=("h", "ticks"),
        condition_spec=ConditionSpec({"goal": vector(2)}, ("wf.toy.free",)),
        condition_extras_schema={"wf.toy.wind": vector(1)},
    )
    recurrent.io_contract().validate()


def test_the_contract_is_put_together_once(recurrent):
    assert recurrent.io_contract() is recurrent.io_contract()
    recurrent.encode(torch.zeros(2, 4))
    recurrent.rollout(recurrent.initial_state(2), torch.zeros(3, 2, 2))
    assert recurrent.calls == 1


def test_a_stated_condition_is_read_and_another_is_not(recurrent):
    state, action = recurrent.initial_state(2), torch.zeros(2, 2)
    extras = {"wf.toy.wind": torch.zeros(2, 1), "wf.toy.free": "anything"}
    recurrent.transition(state, action, ConditionPayload(goal=torch.zeros(2, 2), extras=extras))
    with pytest.raises(ValidationError, match="no condition 'camera_pose', it reads .*'goal'"):
        recurrent.transition(state, action, ConditionPayload(camera_pose=torch.zeros(2, 2)))


def test_what_is_observed_is_predicted_in_its_kind_as_floats():
    config = WorldModelConfig(observation_modalities={"image": {"shape": (3, 8, 8)}, "pose": {"shape": (7,)}})
    predicted = decoded(config.modalities)
    assert predicted["image"].kind is ModalityKind.IMAGE
    assert {name: (spec.shape, spec.dtype) for name, spec in predicted.items()} == {
        "image": ((3, 8, 8), "float32"),
        "pose": ((7,), "float32"),
    }


# --- the initial state -----------------------------------------------------------------------------


def test_the_initial_state_has_the_declared_dtypes(recurrent):
    state = recurrent.initial_state(5)
    assert {name: (value.dtype, tuple(value.shape)) for name, value in state.tensors.items()} == {
        "h": (torch.float32, (5, 3)),
        "ticks": (torch.int64, (5,)),
        "task": (torch.float32, (5, 2)),
    }
    assert recurrent.double().initial_state(5)["h"].dtype == torch.float64
    assert recurrent.initial_state(5)["ticks"].dtype == torch.int64


def test_the_initial_state_is_where_the_weights_are_or_where_it_is_asked_for(recurrent):
    assert recurrent.initial_state(2, "meta").device.type == "meta"
    assert recurrent.to("meta").initial_state(2).device.type == "meta"
    assert recurrent.initial_state(2, "cpu").device.type == "cpu"


@pytest.mark.parametrize("size", [-1, 2.0, True, None, "3", torch.tensor(3)])
def test_a_batch_size_is_a_whole_number(recurrent, size):
    with pytest.raises(ConfigurationError, match="batch_size is .*, expected a whole number of rows"):
        recurrent.initial_state(size)


def test_no_rows_are_a_batch_too(recurrent):
    assert recurrent.initial_state(0)["h"].shape == (0, 3)


# --- hooks -----------------------------------------------------------------------------------------


def test_an_episode_begins_with_no_action_before_it(recurrent):
    obs = torch.randn(3, 4)
    state, nothing, conditioned = recurrent.before_anything({"obs": obs})
    assert not nothing.any()
    assert torch.equal(conditioned["action"], nothing)
    assert torch.equal(recurrent.encode(obs)["h"], recurrent.update(state, nothing, obs)["h"])
    assert torch.equal(recurrent.encode(obs)["ticks"], torch.ones(3, dtype=torch.int64))


@pytest.mark.parametrize("precision", ["float", "double"])
def test_hooks_are_given_everything_in_the_weights_precision(recurrent, precision):
    recurrent = getattr(recurrent, precision)()
    state = recurrent.encode(torch.randn(3, 4))
    state = recurrent.update(state, torch.zeros(3, 2), torch.randn(3, 4))
    assert recurrent.transition(state, torch.zeros(3, 2))["h"].dtype == getattr(torch, precision)


def test_a_memory_feels_what_was_done(recurrent):
    state, obs = recurrent.initial_state(1), torch.zeros(1, 4)
    one, other = (recurrent.update(state, torch.full((1, 2), a), obs)["h"] for a in (0.0, -2.0))
    assert not torch.equal(one, other)


def test_an_optional_tensor_of_a_state_may_be_absent_but_not_wrong(recurrent):
    state = recurrent.initial_state(2)
    del state.tensors["task"]
    recurrent.transition(state, torch.zeros(2, 2))
    state.tensors["task"] = torch.zeros(2, 3)
    with pytest.raises(ShapeMismatchError, match="'task'"):
        recurrent.transition(state, torch.zeros(2, 2))


def test_a_slot_that_a_family_leaves_empty_is_named(recurrent):
    with pytest.raises(CapabilityError, match="Recurrent has no decoder; it declares .*latent_dynamics"):
        recurrent.decode(recurrent.initial_state(1))


def test_a_family_makes_one_step_of_its_loss(recurrent):
    batch = Batch(obs=torch.ones(2, 3, 4), actions=torch.zeros(2, 3, 2), is_first=torch.zeros(2, 3))
    (step,) = recurrent.steps(batch)
    assert step.group is None
    assert torch.equal(step.loss, recurrent.loss(batch).loss)


# --- parts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("how", ["class", "instance"])
def test_a_part_takes_the_mode_of_its_model(recurrent, mode, how):
    recurrent.train(mode)
    part = OtherEmbed if how == "class" else OtherEmbed(recurrent.config).train(not mode)
    recurrent.set_component("observation_encoder", part)
    assert {module.training for module in recurrent.modules()} == {mode}


@pytest.mark.parametrize("how", ["class", "instance"])
def test_a_part_goes_to_the_device_of_its_model(recurrent, how):
    recurrent.to("meta")
    part = OtherEmbed if how == "class" else OtherEmbed(recurrent.config)
    recurrent.set_component("observation_encoder", part)
    assert recurrent.observation_encoder.linear.weight.device.type == "meta"


def test_the_only_part_with_weights_goes_to_the_device_of_the_one_before(toy):
    class Bare(Recurrent):
        def __init__(self, config):
            super().__init__(config)
            del self.cell

    bare = Bare(RecurrentConfig()).to("meta")
    bare.set_component("observation_encoder", OtherEmbed)
    assert bare.observation_encoder.linear.weight.device.type == "meta"


def test_a_part_that_is_made_has_the_models_precision(recurrent):
    recurrent.double().set_component("observation_encoder", OtherEmbed)
    assert recurrent.observation_encoder.linear.weight.dtype == torch.float64
    recurrent.encode(torch.zeros(2, 4))


def test_a_class_is_initialised_as_the_family_initialises_its_own(recurrent):
    fresh = Recurrent(RecurrentConfig())
    with torch.no_grad():
        for weight in recurrent.parameters():
            weight.zero_()
    recurrent.set_component("observation_encoder", OtherEmbed)
    made = recurrent.observation_encoder.linear.weight
    assert ((made >= 1) & (made <= 2)).all()
    fresh.set_component("observation_encoder", OtherEmbed)
    assert torch.equal(made, fresh.observation_encoder.linear.weight)


def test_a_part_that_is_made_follows_from_the_configs_seed_alone(registry, toy):
    """Where a family leaves its parts' own initialisation."""
    one, two, other = (toy["model"](toy["config"](seed=seed)) for seed in (3, 3, 4))
    two.seed(9)
    for model in (one, two, other):
        model.set_component("dynamics_model", toy["dynamics"])
    weights = [model.dynamics_model.linear.weight for model in (one, two, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_every_other_weight_and_buffer_stays(recurrent):
    with torch.no_grad():
        recurrent.scale.fill_(7)
        for weight in recurrent.parameters():
            weight.mul_(3)
    before = {name: value.clone() for name, value in recurrent.state_dict().items() if "encoder" not in name}
    same = recurrent.cell.weight
    recurrent.set_component("observation_encoder", OtherEmbed)
    after = recurrent.state_dict()
    assert before
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert recurrent.cell.weight is same


def test_an_instance_keeps_its_weights(recurrent):
    part = OtherEmbed(recurrent.config)
    weight = part.linear.weight.detach().clone()
    recurrent.set_component("observation_encoder", part)
    assert recurrent.observation_encoder is part
    assert torch.equal(part.linear.weight, weight)


@pytest.mark.parametrize("how", ["class", "instance"])
def test_nobodys_generator_is_drawn_from(registry, toy, how):
    class Careless(Recurrent):
        def initialise(self):
            for weight in self.parameters():
                nn.init.uniform_(weight)

    model = Careless(RecurrentConfig())
    part = OtherEmbed if how == "class" else OtherEmbed(model.config)
    model.generator()
    torch.manual_seed(5)
    before, own = torch.get_rng_state(), model.rng_state()["cpu"].clone()
    model.set_component("observation_encoder", part)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(model.rng_state()["cpu"], own)


def test_no_other_devices_generator_is_seeded(recurrent, monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: seeded.append(seed))
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: seeded.append(seed))
    recurrent.set_component("observation_encoder", OtherEmbed)
    assert seeded == []


def test_a_part_that_does_not_fit_leaves_the_model_as_it_was(recurrent):
    before = recurrent.observation_encoder
    for wrong in (object(), Pass, "no.such.part"):
        with pytest.raises(ConfigurationError):
            recurrent.set_component("observation_encoder", wrong)
    assert recurrent.observation_encoder is before


# --- the recipe ------------------------------------------------------------------------------------


def test_the_recipe_is_the_familys_and_the_configs(recurrent):
    recipe = recurrent.recipe()
    assert (recipe.batch_size, recipe.learning_rate, recipe.grad_clip) == (3, 3e-4, 100.0)
    assert recipe.sequence_length is None
