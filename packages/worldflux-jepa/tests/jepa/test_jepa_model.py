"""What a JEPA learns from and how: targets, rollouts, actions, and what it can do without a goal."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import worldflux
from worldflux import Batch, CapabilityError, ConfigurationError, State
from worldflux.planners import CEMPlanner, GoalObjective, PlannerPolicy
from worldflux.training.config import TrainingConfig
from worldflux.training.optim import build_optimizer


class Seen:
    """The latent is what is observed."""

    def encode(self, observations: dict[str, Tensor]) -> State:
        return State({"latent": observations["obs"]})


class Moved:
    """What is done is added, or what was done a row before."""

    def __init__(self, late: bool = False) -> None:
        self.late = late

    def transition(self, state: State, conditioned: dict[str, Tensor], deterministic: bool = False) -> State:
        done = state["past_actions"][:, -1] if self.late else conditioned["action"]
        return State({"latent": state["latent"] + done})


@pytest.fixture
def oracle(build):
    """A model whose predictor is a part, in a world in which each action is added to what is seen."""
    options = {"obs_shape": (2,), "latent_dim": 2, "history": 2, "rollout_steps": 3, "inverse_dynamics": 0.0}
    model = build(**options, target="stopgrad", regulariser="none")

    def loss(part) -> float:
        model.set_component("observation_encoder", Seen())
        model.set_component("dynamics_model", part)
        actions = torch.rand(3, 7, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
        seen = torch.cat([torch.zeros(3, 1, 2), actions[:, :-1].cumsum(1)], 1)
        return float(model.loss(Batch(obs={"obs": seen}, actions=actions)).loss)

    return loss


def test_an_oracle_errs_nowhere_and_one_of_a_row_late_does(oracle):
    assert oracle(Moved()) < 1e-10
    assert oracle(Moved(late=True)) > 0.1


# --- targets ----------------------------------------------------------------------------------------------------------


def prediction_gradient(model, batch, scale: float = 1.0) -> Tensor:
    """Of the prediction's error alone, by the first weights of the encoder."""
    model.zero_grad()
    weight = next(model.observation_encoder.parameters())
    out = model.loss(batch)
    (gradient,) = torch.autograd.grad(out.loss, [weight], allow_unused=True)
    return torch.zeros_like(weight) if gradient is None else gradient


@pytest.fixture
def alone():
    """Nothing but the prediction's error."""
    return {"regulariser": "none", "inverse_dynamics": 0.0, "sigreg_weight": 0.0}


def test_targets_teach_the_encoder_only_online(build, noise_batch, alone):
    online = {"regulariser": "sigreg", "sigreg_weight": 1e-12, "inverse_dynamics": 0.0}  # of its own it is refused
    models = {"online": build(target="online", **online), "stopgrad": build(target="stopgrad", **alone)}
    batch = noise_batch(models["online"])
    with torch.no_grad():
        latents = {name: model.latent(batch.obs) for name, model in models.items()}
    torch.testing.assert_close(*latents.values())
    gradients = [prediction_gradient(model, batch) for model in models.values()]
    assert not torch.allclose(*gradients, rtol=1e-3)
    model = models["stopgrad"]
    targets = model.targets(batch.obs, model.latent(batch.obs))
    assert not targets.requires_grad


def test_an_average_follows_after_each_step_and_is_never_optimised(build, noise_batch, alone):
    model = build(target="ema", ema_decay=0.75, **alone).train()
    optimizer = build_optimizer(model, TrainingConfig(learning_rate=1e-2))
    optimised = {id(value) for group in optimizer.param_groups for value in group["params"]}
    targets, encoder = list(model.target_encoder.parameters()), list(model.observation_encoder.parameters())
    assert not optimised & {id(value) for value in targets}
    assert {name for name in model.state_dict() if name.startswith("target_encoder.")}
    before = [value.clone() for value in targets]
    model.loss(noise_batch(model)).loss.backward()
    optimizer.step()
    assert all(torch.equal(value, old) for value, old in zip(targets, before, strict=True))
    model.on_after_optimizer_step()
    for value, old, now in zip(targets, before, encoder, strict=True):
        torch.testing.assert_close(value, 0.75 * old + 0.25 * now)


def test_a_new_encoder_of_another_size_gets_an_average_of_its_own(build, alone):
    model = build(target="ema", **alone)
    kept = model.target_encoder
    model.set_component("observation_encoder", model.observation_encoder)
    assert model.target_encoder is kept
    other = torch.nn.Linear(5, 16)
    other.encode = lambda obs: State({"latent": other(obs["obs"])})
    model.set_component("observation_encoder", other)
    assert [p.shape for p in model.target_encoder.parameters()] == [p.shape for p in other.parameters()]
    assert all(not p.requires_grad for p in model.target_encoder.parameters())


def test_a_frozen_encoder_never_learns_nor_counts_batches(build, noise_batch):
    shown = {"observation_modalities": {"image": {"shape": (3, 32, 32)}}}
    model = build(target="frozen", regulariser="none", inverse_dynamics=0.0, **shown).train()
    before = {name: value.clone() for name, value in model.observation_encoder.state_dict().items()}
    assert not any(p.requires_grad for p in model.observation_encoder.parameters())
    model.loss(noise_batch(model)).loss.backward()
    for name, value in model.observation_encoder.state_dict().items():
        assert torch.equal(value, before[name]), name


# --- actions ----------------------------------------------------------------------------------------------------------


def test_given_numbers_standardise_actions_wherever_they_come_in(build):
    plain, model = build(), build(action_mean=(0.5, -0.5), action_std=(2.0, 0.25))
    state, action = plain.encode({"obs": torch.zeros(3, 5)}), torch.rand(3, 2)
    standardised = (action - torch.tensor([0.5, -0.5])) / torch.tensor([2.0, 0.25])
    torch.testing.assert_close(
        model.transition(state, action)["latent"], plain.transition(state, standardised)["latent"]
    )


def test_training_finds_mean_and_deviation_of_actions_and_evaluation_does_not(build, noise_batch):
    model = build(normalise_actions=True)
    batch = noise_batch(model, size=64)
    batch = replace(batch, actions=batch.actions * torch.tensor([3.0, 0.1]) + torch.tensor([1.0, 0.0]))
    model.loss(batch)
    assert torch.equal(model.action_conditioner.scale.mean, torch.zeros(2))
    model.train().loss(batch)
    scale, seen = model.action_conditioner.scale, batch.actions[:, :-1].flatten(0, 1)
    torch.testing.assert_close(scale.mean, seen.mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scale.variance.sqrt(), seen.std(0), rtol=1e-2, atol=1e-3)
    assert {name for name in model.state_dict() if name.startswith("action_conditioner.scale")}


def test_outside_of_a_loss_rows_do_not_know_each_other_in_training_either(build):
    model = build(head_units=8, projector="mlp")
    obs, action = torch.randn(3, 5), torch.rand(3, 2)
    settled = model.transition(model.encode({"obs": obs}), action)["latent"]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    alone = [model.transition(model.encode({"obs": obs[i : i + 1]}), action[i : i + 1])["latent"] for i in range(3)]
    torch.testing.assert_close(torch.cat(alone), settled)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# --- what it is -------------------------------------------------------------------------------------------------------


def test_lewm_has_as_many_weights_as_officially():
    with torch.device("meta"):
        model = worldflux.WorldModelRegistry.model("jepa").model_class(worldflux.get_config("jepa:base", action_dim=10))
    parts = (model.observation_encoder.image, model.dynamics_model.blocks, model.dynamics_model.actions)
    millions = [round(sum(p.numel() for p in part.parameters()) / 1e6, 2) for part in parts]
    assert (round(model.num_parameters() / 1e6, 2), *millions) == (18.03, 5.5, 10.79, 0.16)


def test_dropout_draws_from_the_models_own_generator(build, noise_batch):
    model = build(predictor="adaln", history=3, heads=2, head_dim=8, mlp_units=32, dropout=0.5).train()
    batch, state = noise_batch(model), torch.get_rng_state()
    losses = []
    for seed in (1, 1, 2):
        model.seed(seed)
        losses.append(float(model.loss(batch).loss.detach()))
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(state, torch.get_rng_state())


def test_without_a_goal_there_is_no_policy(build):
    with pytest.raises(CapabilityError, match=r"PlannerPolicy.*GoalObjective.*worldflux plan RUN --goal"):
        build().policy()


def test_nothing_is_decoded_without_a_decoder(build):
    model = build()
    assert model.decode(model.encode({"obs": torch.zeros(2, 5)})).preds == {}


def test_a_goal_is_planned_to(build):
    model = build(obs_shape=(2,), latent_dim=2, inverse_dynamics=0.0)
    model.set_component("observation_encoder", Seen())
    model.set_component("dynamics_model", Moved())
    goal = GoalObjective(model.encode({"obs": torch.tensor([[0.6, -0.4]])}), key="latent", energy="l2")
    policy = PlannerPolicy(model, CEMPlanner(horizon=1, num_samples=200, num_elites=20, iterations=8), goal)
    first = torch.ones(1, dtype=torch.bool)
    action, _ = policy({"obs": torch.zeros(1, 2)}, policy.initial(1), is_first=first, explore=False)
    torch.testing.assert_close(action, torch.tensor([[0.6, -0.4]]), atol=0.03, rtol=0)


def test_an_external_encoder_is_to_be_put_in_place(build):
    model = build(encoder="external", observation_modalities={"image": {"shape": (3, 32, 32)}})
    with pytest.raises(ConfigurationError, match="component_overrides"):
        model.encode({"image": torch.zeros(1, 3, 32, 32)})
    model.set_component("observation_encoder", Pooled())
    assert model.encode({"image": torch.zeros(1, 3, 32, 32)})["latent"].shape == (1, 16)


class Looking(torch.nn.Linear):
    """Says what was seen."""

    def decode(self, state: State, conditions=None) -> dict[str, Tensor]:
        return {"obs": self(state["latent"])}


def test_a_decoder_learns_from_latents_that_do_not_learn_from_it(build, noise_batch):
    model = build()
    batch, weight = noise_batch(model), next(model.observation_encoder.parameters())
    (before,) = torch.autograd.grad(model.loss(batch).loss, [weight])
    model.set_component("decoder", Looking(16, 5))
    out = model.loss(batch)
    (after, own) = torch.autograd.grad(out.loss, [weight, model.decoder.weight])
    torch.testing.assert_close(after, before)
    assert own.abs().max() > 0 and "decoder" in out.components
    assert model.decode(model.encode({"obs": batch.obs["obs"][:, 0]})).preds["obs"].shape == (4, 5)


def test_beside_frozen_patches_vectors_learn(build, noise_batch):
    shown = {"image": {"shape": (3, 16, 16)}, "speed": {"shape": (2,)}}
    vit = {"encoder": "vit", "patches": True, "patch_size": 8, "encoder_units": 16, "encoder_heads": 2}
    model = build(
        observation_modalities=shown, **vit, encoder_depth=1, encoder_mlp=32, vector_units=4, target="frozen",
        regulariser="none", inverse_dynamics=0.0,
    ).train()  # fmt: skip
    encoder = model.observation_encoder
    learning = {name for name, value in encoder.named_parameters() if value.requires_grad}
    assert learning == {"vectors.weight", "vectors.bias"} and not encoder.projector.training
    model.loss(noise_batch(model)).loss.backward()
    assert encoder.vectors.weight.grad.abs().max() > 0


class Pooled:
    """Sixteen means of an image."""

    def encode(self, observations: dict[str, Tensor]) -> State:
        image = observations["image"].float()
        return State({"latent": image.flatten(-3).unflatten(-1, (16, -1)).mean(-1)})
