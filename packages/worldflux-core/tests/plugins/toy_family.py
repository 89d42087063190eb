"""The code of a small family; tests install it as a plugin. It learns nothing, and has every slot."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from worldflux.core.config import WorldModelConfig
from worldflux.core.model import WorldModel
from worldflux.core.output import LossOutput
from worldflux.core.spec import ModalitySpec, ModelIOContract, ObservationSpec, StateSpec
from worldflux.core.state import State
from worldflux.plugins import hookimpl


@dataclass
class ToyConfig(WorldModelConfig):
    model_type: str = "toy"
    obs_shape: tuple[int, ...] = (4,)
    action_dim: int = 2
    width: int = 8


class Encoder(nn.Module):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.names = sorted(config.modalities)
        self.linear = nn.Linear(sum(spec.shape[0] for spec in config.modalities.values()), config.width)

    def encode(self, observations):
        return State({"z": self.linear(torch.cat([observations[name] for name in self.names], -1))})


class Dynamics(nn.Module):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.action_dim, config.width)

    def transition(self, state, conditioned, deterministic=False):
        action = conditioned.get("action")
        return State({"z": state["z"] + (0 if action is None else self.linear(action))})


class PassAction:
    def condition(self, state, action, conditions=None):
        return {"action": action}


class ZeroAction:
    def condition(self, state, action, conditions=None):
        return {}


class Toy(WorldModel):
    config_class = ToyConfig

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.observation_encoder = Encoder(config)
        self.action_conditioner = PassAction()
        self.dynamics_model = Dynamics(config)

    def io_contract(self) -> ModelIOContract:
        return ModelIOContract(
            observation_spec=ObservationSpec(self.config.modalities),
            action_spec=self.config.actions,
            state_spec=StateSpec({"z": ModalitySpec("vector", (self.config.width,))}),
        )

    def loss(self, batch) -> LossOutput:
        return LossOutput(self.encode(batch.obs)["z"].square().mean())


def load(source, config=None):
    model = Toy(ToyConfig(**(config or {})))
    model.source = source
    return model


created, saved = [], []


@hookimpl
def worldflux_register_models(registrar):
    registrar.add("toy", Toy, ToyConfig)


@hookimpl
def worldflux_register_components(registrar):
    registrar.add("toy.zero", "action_conditioner", ZeroAction)


@hookimpl
def worldflux_register_backends(registrar):
    registrar.add("toy_remote", object)


@hookimpl
def worldflux_resolve_preset(family, preset):
    return {"width": int(preset[1:])} if family == "toy" and preset.startswith("w") else None


@hookimpl
def worldflux_model_created(model, spec):
    created.append((model, spec))


@hookimpl
def worldflux_checkpoint_saved(path, spec):
    saved.append((path, spec))
