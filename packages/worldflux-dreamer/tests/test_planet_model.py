"""PlaNet as a model: its parts, its presets, what it refuses, how it acts."""

from __future__ import annotations

import math

import pytest
import torch

import worldflux
from worldflux import Batch, ConfigurationError, ShapeMismatchError, State, ValidationError
from worldflux.planners import CEMPlanner, PlannerPolicy
from worldflux_dreamer.planet import PlaNet, PlaNetConfig

PLAN = {"horizon": 3, "num_samples": 8, "num_elites": 2, "iterations": 2}
SIZES = {"deter_dim": 12, "stoch_dim": 3, "hidden_dim": 10, "reward_units": 8, "depth": 2, "free_nats": 0.0, **PLAN}
MIXED = {"image": {"shape": (3, 64, 64)}, "speed": {"shape": (2,)}, "grid": {"shape": (3, 3), "kind": "vector"}}


def build(**options) -> PlaNet:
    return PlaNet(PlaNetConfig(**{**SIZES, "obs_shape": (5,), "action_dim": 2, **options})).eval()


def observations(model: PlaNet, size: int = 3) -> dict[str, torch.Tensor]:
    generator, found = torch.Generator().manual_seed(0), {}
    for name, spec in model.config.modalities.items():
        noise = torch.rand(size, *spec.shape, generator=generator)
        found[name] = (noise * 255).to(torch.uint8) if spec.kind == "image" else noise
    return found


# --- the parts ----------------------------------------------------------------------------------------------------


def test_the_gru_resets_before_the_candidate_and_gates_begin_open():
    gru = build().dynamics_model.gru
    assert torch.equal(gru.gates.bias, torch.ones(24))
    x, h = torch.randn(4, 10), torch.randn(4, 12)
    joined = torch.cat([x, h], -1)
    reset, update = torch.sigmoid(joined @ gru.gates.kernel + gru.gates.bias).split(12, -1)
    candidate = torch.tanh(torch.cat([x, reset * h], -1) @ gru.candidate.kernel + gru.candidate.bias)
    torch.testing.assert_close(gru(x, h), update * h + (1 - update) * candidate)


def test_deviations_are_softplus_above_the_least():
    model = build(min_std=0.3)
    with torch.no_grad():
        model.posterior.head.out.bias[3:] = torch.tensor([-100.0, 0.0, 5.0])
        model.posterior.head.out.kernel.zero_()
    _, std = model.posterior(torch.randn(2, 12), torch.randn(2, 10))
    torch.testing.assert_close(std[0], torch.nn.functional.softplus(torch.tensor([-100.0, 0.0, 5.0])) + 0.3)


def test_the_paper_s_convolutions_give_the_paper_s_sizes():
    model = PlaNet(PlaNetConfig.from_size("base"))
    assert model.observation_encoder.token_dim == 1024
    assert tuple(model.decoder.image(torch.zeros(2, 230)).shape) == (2, 3, 64, 64)
    assert [layer.kernel.shape[0] for layer in model.observation_encoder.cnn] == [32, 64, 128, 256]


def test_a_state_is_drawn_around_the_posterior():
    model = build()
    obs = {"obs": torch.randn(1, 5).expand(4000, 5)}
    state, mean = model.encode(obs), model.encode(obs, deterministic=True)["stoch"][0]
    _, std = model.posterior(state["deter"][:1], model.tokens({"obs": obs["obs"][:1]}))
    torch.testing.assert_close(state["stoch"].mean(0), mean, atol=0.06, rtol=0)
    torch.testing.assert_close(state["stoch"].std(0), std[0], atol=0.06, rtol=0)


def test_predictions_are_in_the_units_of_the_data():
    model = build(observation_modalities=MIXED)
    with torch.no_grad():
        model.decoder.vec["speed"].bias.fill_(3.0)
        model.decoder.vec["speed"].kernel.zero_()
    with torch.no_grad():
        preds = model.decode(model.encode(observations(model))).preds
    assert {name: tuple(value.shape) for name, value in preds.items()} == {
        "image": (3, 3, 64, 64), "speed": (3, 2), "grid": (3, 3, 3), "reward": (3,),
    }  # fmt: skip
    torch.testing.assert_close(preds["speed"], torch.full((3, 2), 3.0).expm1())
    assert 0 <= float(preds["image"].min()) <= float(preds["image"].max()) <= 1


class Flat(torch.nn.Module):
    """A decoder with one number for each thing, and none of our own decoder's methods."""

    def __init__(self, config: PlaNetConfig) -> None:
        super().__init__()
        self.width = config.obs_shape[0]
        self.level = torch.nn.Parameter(torch.full((), 0.25))

    def decode(self, state: State, conditions: object = None) -> dict[str, torch.Tensor]:
        one = self.level.expand(state["deter"].shape[0])
        return {"obs": one[:, None].expand(-1, self.width), "reward": one}


class Frozen:
    """Dynamics in which nothing moves, and that say nothing of their certainty."""

    def transition(self, state: State, conditioned: dict, deterministic: bool = False) -> State:
        return State({"deter": state["deter"] * 0 + 0.5, "stoch": state["stoch"]})


@pytest.mark.parametrize(("slot", "part"), [("decoder", Flat), ("dynamics_model", Frozen)])
def test_a_foreign_component_is_learnt_with(slot, part):
    model = build()
    batch = Batch(obs={"obs": torch.zeros(2, 4, 5)}, actions=torch.zeros(2, 4, 2), rewards=torch.zeros(2, 4))
    model.set_component(slot, part)
    out = model.loss(batch)
    assert torch.isfinite(out.loss)
    if slot == "decoder":
        assert float(out.components["rew"]) == pytest.approx(math.log1p(0.25) ** 2)
        rewards = model.rollout(model.initial_state(2), torch.zeros(3, 2, 2)).rewards
        assert torch.equal(rewards, torch.full((3, 2), 0.25))


# --- acting -------------------------------------------------------------------------------------------------------


def test_the_policy_plans_as_the_paper_does():
    policy = PlaNet(PlaNetConfig.from_size("base", obs_shape=(5,), action_dim=2)).policy()
    assert isinstance(policy, PlannerPolicy)
    assert policy.planner == CEMPlanner(horizon=12, num_samples=1000, num_elites=100, iterations=10, exploration=0.3)
    assert (policy.objective.discount, policy.objective.terminal, policy.deterministic) == (1.0, False, False)


def test_its_recipe_acts_at_random_until_something_was_learnt():
    model = build(seed_steps=300)
    assert model.recipe().random_steps == 300
    assert model.recipe().min_rows == 300
    model.on_after_optimizer_step()
    assert int(model.updates) == 1
    assert model.recipe().random_steps == 0  # a model that knows something goes on with it


def test_a_carry_counts_steps_since_each_episode_began():
    model, none = build(), torch.zeros(3, dtype=torch.bool)
    obs, policy = {"obs": torch.zeros(3, 5)}, model.policy()
    _, carry = policy(obs, policy.initial(3), is_first=~none, explore=True)
    _, carry = policy(obs, carry, is_first=torch.tensor([False, True, False]), explore=True)
    assert carry["step"].tolist() == [2, 1, 2]
    _, carry = policy(obs, carry, is_first=none, explore=False)
    assert carry["step"].tolist() == [3, 2, 3]


def test_it_learns_and_plans_in_mixed_precision():
    model = build()
    rows = {"rewards": torch.zeros(2, 4), "is_first": torch.zeros(2, 4, dtype=torch.bool)}
    batch = Batch(obs={"obs": torch.randn(2, 4, 5)}, actions=torch.zeros(2, 4, 2), **rows)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.train().loss(batch).loss
    loss.backward()
    assert torch.isfinite(model.dynamics_model.gru.gates.kernel.grad).all()
    planner = CEMPlanner(horizon=3, num_samples=9, num_elites=2, mixed_precision=True)
    assert planner.plan(model.eval(), model.encode(torch.zeros(2, 5))).tensor.dtype == torch.float32


def test_a_plan_finds_what_the_model_pays_for():
    model = build(horizon=1, num_samples=200, num_elites=20, iterations=6)

    class Pays(Flat):
        def decode(self, state, conditions=None):
            return {**super().decode(state), "reward": -(state["stoch"][:, 0] - 0.5).square()}

    class Follows(Frozen):
        def transition(self, state, conditioned, deterministic=False):
            return State({"deter": state["deter"], "stoch": state["stoch"] * 0 + conditioned["action"][:, :1]})

    model.set_component("decoder", Pays)
    model.set_component("dynamics_model", Follows)
    policy = model.policy()
    obs, first = {"obs": torch.zeros(2, 5)}, torch.ones(2, dtype=torch.bool)
    action, _ = policy(obs, policy.initial(2), is_first=first, explore=False)
    torch.testing.assert_close(action[:, 0], torch.full((2,), 0.5), atol=0.02, rtol=0)


# --- presets and refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["planet:ci", "planet:base"])
def test_presets_are_listed(name):
    info = worldflux.get_model_info(name)
    assert (info["model_id"], info["type"], info["plugin"]) == (name, "planet", "worldflux-dreamer")
    assert name in worldflux.list_models()


def test_names_lead_to_presets():
    assert worldflux.get_model_info("planet")["model_id"] == "planet:base"
    assert worldflux.get_model_info("planet-ci")["model_id"] == "planet:ci"
    assert PlaNetConfig.from_size("base").to_dict() == PlaNetConfig().to_dict()
    with pytest.raises(ConfigurationError, match="Did you mean 'base'"):
        PlaNetConfig.from_size("bass")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"obs_shape": (3, 32, 32)}, "64x64 pixels, got 32x32"),
        ({"num_elites": 9, "num_samples": 8}, "num_elites 9 must not exceed num_samples 8"),
        ({"overshooting": 51}, "must not exceed sequence_length"),
        ({"overshooting": 0}, "overshooting is 0, expected a whole number of at least 1"),
        ({"bits": 9}, "bits is 9, .* at least 1 and at most 8"),
        ({"exploration": 1.5}, "exploration is 1.5, .* at most 1"),
        ({"min_std": 0.0}, "min_std is 0.0, .* above 0"),
        ({"free_nats": -1.0}, "free_nats is -1.0, .* at least 0"),
        ({"action_type": "token"}, "continuous, discrete or multi actions"),
        ({"observation_modalities": {"kl": {"shape": (2,)}}}, "needs another name"),
        ({"observation_modalities": {"keys": {"shape": (2,)}}}, "'keys' needs another name: torch's modules"),
        ({"observation_modalities": {"training": {"shape": (2,)}}}, "'training' needs another name: torch's modules"),
    ],
)
def test_a_config_that_cannot_be_is_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        PlaNetConfig(**options)


def test_what_does_not_fit_the_model_is_refused():
    model = build()
    with pytest.raises(ShapeMismatchError, match="expected 3, got 2"):
        model.update(model.initial_state(3), torch.zeros(3, 2), torch.zeros(2, 5))
    with pytest.raises(ValidationError, match="rewards"):
        model.loss(Batch(obs={"obs": torch.zeros(2, 4, 5)}, actions=torch.zeros(2, 4, 2)))


def test_an_encoder_of_another_width_is_refused():
    class Narrow:
        def encode(self, observations):
            return State({"tokens": observations["obs"][..., :1]})

    model = build()
    model.set_component("observation_encoder", Narrow())
    with pytest.raises(ConfigurationError, match=r"got tokens of shape \(2, 1\)"):
        model.encode(torch.zeros(2, 5))


def test_a_saved_model_is_the_same_model(tmp_path):
    model = build(observation_modalities=MIXED)
    model.on_after_optimizer_step()
    model.save_pretrained(tmp_path)
    again = worldflux.create_world_model(str(tmp_path))
    state = again.state_dict()
    assert again.config == model.config
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_the_seed_decides_the_weights_and_nothing_else_is_drawn():
    before = torch.random.get_rng_state()
    one, same, other = (build(seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
