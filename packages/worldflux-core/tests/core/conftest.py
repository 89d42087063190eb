"""A small world model, complete enough to exercise every part of the contract."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from worldflux.core.batch import Batch
from worldflux.core.config import WorldModelConfig
from worldflux.core.model import WorldModel
from worldflux.core.output import LossOutput
from worldflux.core.registry import ComponentSpec, WorldModelRegistry
from worldflux.core.spec import Capability, ConditionSpec, StateSpec, vector
from worldflux.core.state import State


@dataclass
class ToyConfig(WorldModelConfig):
    model_type: str = "toy"
    obs_shape: tuple[int, ...] = (4,)
    action_dim: int = 2
    width: int = 8


class ToyEncoder(nn.Module):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.names = sorted(config.modalities)
        self.linear = nn.Linear(sum(spec.shape[0] for spec in config.modalities.values()), config.width)

    def encode(self, observations):
        return State({"z": self.linear(torch.cat([observations[name] for name in self.names], -1))})


class ToyDynamics(nn.Module):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.actions = config.action_dim
        self.linear = nn.Linear(config.width + config.action_dim, config.width)

    def transition(self, state, conditioned, deterministic=False):
        action = conditioned.get("action", state["z"].new_zeros(state.batch_size, self.actions))
        return State({"z": self.linear(torch.cat([state["z"], action], -1))})


class PassAction:
    def condition(self, state, action, conditions=None):
        return {"action": action}


class IgnoreAction:
    def condition(self, state, action, conditions=None):
        return {}


class ToyDecoder(nn.Module):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.width, 2)

    def decode(self, state, conditions=None):
        reward, keep = self.linear(state["z"]).unbind(-1)
        return {"reward": reward, "continue": keep.sigmoid()}


class ToyModel(WorldModel):
    config_class = ToyConfig
    capabilities = frozenset({Capability.LATENT_DYNAMICS, Capability.REWARD_PRED, Capability.CONTINUE_PRED})

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.observation_encoder = ToyEncoder(config)
        self.action_conditioner = PassAction()
        self.dynamics_model = ToyDynamics(config)
        self.decoder = ToyDecoder(config)

    def state_spec(self) -> StateSpec:
        return StateSpec({"z": vector(self.config.width)})

    def condition_spec(self) -> ConditionSpec:
        return ConditionSpec({"wf.toy.scale": vector(1)})

    def loss(self, batch: Batch) -> LossOutput:
        return LossOutput(self.encode(batch.obs)["z"].square().mean())


@pytest.fixture
def registry():
    """The process's registry with the toy family in it, put back afterwards."""
    before = WorldModelRegistry.snapshot()
    WorldModelRegistry.register("toy")(ToyModel)
    WorldModelRegistry.register_component("toy.ignore_action", IgnoreAction, ComponentSpec("i", "action_conditioner"))
    yield WorldModelRegistry
    WorldModelRegistry.restore(before)


@pytest.fixture
def model(registry) -> ToyModel:
    torch.manual_seed(0)
    return ToyModel(ToyConfig())


@pytest.fixture
def toy():
    """The toy family's classes."""
    return {"model": ToyModel, "config": ToyConfig, "ignore": IgnoreAction, "dynamics": ToyDynamics}


@pytest.fixture
def dead_process() -> int:
    """The id of a process of this machine that is no more."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid
