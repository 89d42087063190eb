"""A family written before there were hooks, which overrides io_contract, encode and transition, goes on working."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from worldflux import Trainer, TrainingConfig, create_world_model  # noqa: E402
from worldflux.testing import run_checks  # noqa: E402
from worldflux.testing.fixtures import tiny_batch  # noqa: E402

CODE = """
from dataclasses import dataclass

import torch
from torch import nn

from worldflux import (
    Capability, LossOutput, ModalitySpec, ModelIOContract, ObservationSpec, PredictionSpec, State, StateSpec,
    WorldModel, WorldModelConfig,
)
from worldflux.plugins import hookimpl


@dataclass
class Config(WorldModelConfig):
    model_type: str = "earlier-family"
    obs_shape: tuple[int, ...] = (6,)
    action_dim: int = 3
    width: int = 16


class Encoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.linear = nn.Linear(config.obs_shape[0], config.width)

    def encode(self, observations):
        return State({"latent": torch.tanh(self.linear(observations["obs"]))})


class Dynamics(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.linear = nn.Linear(config.width + config.actions.dim, config.width)

    def transition(self, state, conditioned, deterministic=False):
        return State({"latent": torch.tanh(self.linear(torch.cat([state["latent"], conditioned["action"]], -1)))})


class Conditioner:
    def condition(self, state, action, conditions=None):
        return {"action": action}


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.linear = nn.Linear(config.width, 1)

    def decode(self, state, conditions=None):
        return {"reward": self.linear(state["latent"]).squeeze(-1)}


class Model(WorldModel):
    config_class = Config
    capabilities = frozenset({Capability.LATENT_DYNAMICS, Capability.REPRESENTATION, Capability.REWARD_PRED})

    def __init__(self, config):
        super().__init__(config)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(config.seed)
            self.observation_encoder = Encoder(config)
            self.action_conditioner = Conditioner()
            self.dynamics_model = Dynamics(config)
            self.decoder = Decoder(config)

    def io_contract(self):
        return ModelIOContract(
            observation_spec=ObservationSpec(self.config.modalities),
            action_spec=self.config.actions,
            state_spec=StateSpec({"latent": ModalitySpec("vector", (self.config.width,))}),
            prediction_spec=PredictionSpec({"reward": ModalitySpec("vector", ())}),
            required_batch_keys=("obs", "actions", "rewards"),
            required_state_keys=("latent",),
        )

    def encode(self, obs, deterministic=False):
        return self.observation_encoder.encode(self.observations(obs))

    def transition(self, state, action, conditions=None, deterministic=False):
        return self.dynamics_model.transition(state, self.condition(state, action, conditions))

    def loss(self, batch):
        self.validate_batch_contract(batch)
        obs, actions = self.observations(batch.obs), self.actions(batch.actions)
        seen = self.observation_encoder.encode(obs)["latent"]
        before = State({"latent": seen[:, :-1].flatten(0, 1)})
        ahead = self.transition(before, actions[:, :-1].flatten(0, 1))["latent"]
        weight = (~batch.is_first[:, 1:]).float().flatten()
        parts = {
            "ahead": ((ahead - seen[:, 1:].flatten(0, 1)).square().mean(-1) * weight).mean(),
            "paid": (self.decode(State({"latent": seen.flatten(0, 1)})).preds["reward"].view_as(batch.rewards)
                     - batch.rewards).square().mean(),
        }
        total = parts["ahead"] + parts["paid"]
        return LossOutput(total, {name: part.detach() for name, part in parts.items()})

    def training_defaults(self):
        return {"learning_rate": 1e-2, "batch_size": 4}


@hookimpl
def worldflux_register_models(registrar):
    registrar.add("earlier-family", Model, Config)
"""
MANIFEST = """
manifest_version = 1
name = "earlier-family"
plugin_api_version = "1.0"
worldflux_version_range = ">=0.1,<0.2"
capabilities = ["models"]

[[models]]
id = "earlier-family"
description = "As families were written first"
capabilities = ["latent_dynamics", "representation", "reward_pred"]

[models.presets.ci]
description = "For tests"
params = "~450"
default_obs = "vector"
maturity = "experimental"
"""


@pytest.fixture
def earlier(make_plugin_dist):
    make_plugin_dist("earlier-family", code=CODE, manifest=MANIFEST)


def test_it_keeps_every_rule_that_was_made_for_it(earlier):
    results = {result.check: result for result in run_checks("earlier-family")}
    assert {name: result.message for name, result in results.items() if result.outcome == "failed"} == {}
    later = ("check_foreign_states_are_refused", "check_unread_conditions_are_refused")
    assert all("overrides io_contract" in results[name].message for name in later)


def test_it_trains_by_its_recipe_imagines_and_comes_back(earlier, tmp_path):
    model = create_world_model("earlier-family:ci")
    trainer = Trainer(model, TrainingConfig(total_steps=2, output_dir=str(tmp_path / "run"), device="cpu"))
    trainer.train([tiny_batch(model, batch_size=4) for _ in range(2)])
    assert (trainer.config.learning_rate, trainer.config.batch_size) == (1e-2, 4)
    state = model.encode(torch.zeros(2, 6))
    imagined = model.rollout(state, torch.ones(3, 2, 3))
    assert imagined.rewards.shape == (3, 2)
    assert torch.equal(model.update(state, torch.zeros(2, 3), torch.ones(2, 6))["latent"],
                       model.encode(torch.ones(2, 6))["latent"])  # fmt: skip
    again = create_world_model(str(model.save_pretrained(tmp_path / "saved")))
    assert torch.equal(again.rollout(state, torch.ones(3, 2, 3)).rewards, imagined.rewards)
