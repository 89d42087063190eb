"""A family small enough to train in milliseconds, and a command."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import nn

from worldflux.core.config import WorldModelConfig
from worldflux.core.model import WorldModel
from worldflux.core.output import LossOutput, ModelOutput
from worldflux.core.spec import Capability, StateSpec, vector
from worldflux.core.state import State
from worldflux.plugins import hookimpl
from worldflux.recipe import Recipe

print("a plugin that talks when it is imported")


@dataclass
class ToyConfig(WorldModelConfig):
    model_type: str = "toyworld"
    explode_at: int = 0


class ToyPolicy:
    """Draws actions where it explores, does the first one otherwise."""

    latent_spec = {}

    def __init__(self, model, generator):
        self.model, self.generator = model, generator

    def initial(self, batch_size):
        return {"rows": torch.zeros(batch_size)}

    def __call__(self, obs, carry, *, is_first, explore):
        number = self.model.config.action_dim
        if explore:
            chosen = torch.randint(number, (len(is_first),), generator=self.generator or self.model.generator())
        else:
            chosen = torch.zeros(len(is_first), dtype=torch.int64)
        return nn.functional.one_hot(chosen, number).float(), {"rows": carry["rows"] + 1}

    def latents(self, carry):
        return {}


class ToyWorld(WorldModel):
    config_class = ToyConfig
    capabilities = frozenset({Capability.REWARD_PRED, Capability.POLICY})

    def __init__(self, config):
        super().__init__(config)
        print("a model that talks when it is built")
        size = torch.Size(config.obs_shape).numel()
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.step = nn.Linear(size + config.action_dim, size)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def state_spec(self):
        return StateSpec({"z": vector(torch.Size(self.config.obs_shape).numel())})

    def training_defaults(self):
        return Recipe(num_envs=2, batch_size=2, sequence_length=4, replay_ratio=8.0, env_steps=120)

    def encode(self, obs, deterministic=False):
        value = self.observations(obs)["obs"]
        scaled = value.float() / 255 if value.dtype == torch.uint8 else value
        return State({"z": scaled.flatten(-len(self.config.obs_shape))})

    def transition(self, state, action, conditions=None, deterministic=False):
        return State({"z": state["z"] + self.step(torch.cat([state["z"], self.actions(action)], -1))})

    def decode(self, state, conditions=None):
        obs = state["z"].unflatten(-1, self.config.obs_shape)
        return ModelOutput({"obs": obs, "reward": torch.ones(state.batch_size)})

    def loss(self, batch):
        z = self.encode(batch.obs)["z"]
        ahead = z[:, :-1] + self.step(torch.cat([z[:, :-1], batch.actions[:, :-1]], -1))
        error = (ahead - z[:, 1:]).square().mean()
        if self.config.explode_at and self.updates >= self.config.explode_at:
            error = error * float("nan")
        return LossOutput(error, {"obs": error})

    def on_after_optimizer_step(self):
        self.updates += 1

    def policy(self, *, generator=None):
        return ToyPolicy(self, generator)


@hookimpl
def worldflux_register_models(registrar):
    registrar.add("toyworld", ToyWorld, config_type=ToyConfig)


def greet(arguments):
    sys.stdout.write(f"hello {' '.join(arguments)}\n")
    return 3
