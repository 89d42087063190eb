"""A small family with every slot, stochastic latents and a policy: learns the echo world in a second."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from worldflux.core.config import WorldModelConfig
from worldflux.core.model import WorldModel
from worldflux.core.output import LossOutput
from worldflux.core.spec import (
    Capability,
    ModalityKind,
    ModalitySpec,
    ModelIOContract,
    ObservationSpec,
    PredictionSpec,
    SequenceLayout,
    StateSpec,
)
from worldflux.core.state import State
from worldflux.core.trajectory import Trajectory
from worldflux.plugins import hookimpl

NOISE = 0.05  # standard deviation of the latents


@dataclass
class Config(WorldModelConfig):
    model_type: str = "base-family"
    obs_shape: tuple[int, ...] = (6,)
    action_dim: int = 3
    width: int = 16
    learning_rate: float = 1e-2


class Encoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.specs = config.modalities
        self.linear = nn.Linear(sum(math.prod(spec.shape) for spec in self.specs.values()), config.width)

    def encode(self, observations):
        return State({"tokens": torch.tanh(self.linear(flat(observations, self.specs)))})


def flat(observations, specs):
    """All modalities as one vector ``[..., N]``; images as stored come to [0, 1]."""
    parts = []
    for name, spec in specs.items():
        value = observations[name]
        value = value if value.is_floating_point() else value / 255
        parts.append(value.float().flatten(value.ndim - len(spec.shape)))
    return torch.cat(parts, -1)


def rows(value):
    """``[B, T, N]`` as ``[B * T, N]``."""
    return value.flatten(0, 1)


class Conditioner:
    def condition(self, state, action, conditions=None):
        return {"action": action}


class Dynamics(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.linear = nn.Linear(config.width + config.actions.dim, config.width)
        self.prior = nn.Linear(config.width, config.width)

    def transition(self, state, conditioned, deterministic=False):
        memory = torch.tanh(self.linear(torch.cat([state["latent"], conditioned["action"]], -1)))
        return State({"memory": memory, "latent": self.prior(memory) + conditioned.get("noise", 0)})


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.specs = config.modalities
        self.sizes = [math.prod(spec.shape) for spec in self.specs.values()]
        self.hidden = nn.Linear(2 * config.width, 2 * config.width)
        self.out = nn.Linear(2 * config.width, sum(self.sizes) + 2)

    def decode(self, state, conditions=None):
        hidden = F.silu(self.hidden(torch.cat([state["memory"], state["latent"]], -1)))
        *parts, reward, goes_on = self.out(hidden).split([*self.sizes, 1, 1], -1)
        preds = {"reward": reward.squeeze(-1), "continue": torch.sigmoid(goes_on.squeeze(-1))}
        for (name, spec), part in zip(self.specs.items(), parts):
            part = torch.sigmoid(part) if spec.kind is ModalityKind.IMAGE else part
            preds[name] = part.unflatten(-1, spec.shape)
        return preds


class OpenLoop:
    def rollout_open_loop(self, model, initial_state, action_sequence, conditions=None, deterministic=False):
        states = [initial_state]
        for action in action_sequence:
            states.append(model.transition(states[-1], action, conditions, deterministic))
        preds = [model.decode(state).preds for state in states[1:]]
        shape = len(preds), initial_state.batch_size
        rewards, continues = (
            torch.stack([step[name] for step in preds]).view(shape) if preds else torch.zeros(shape)
            for name in ("reward", "continue")
        )
        return Trajectory(states, action_sequence, rewards=rewards, continues=continues)


class Model(WorldModel):
    config_class = Config
    capabilities = frozenset(
        {
            Capability.LATENT_DYNAMICS,
            Capability.OBS_DECODER,
            Capability.REPRESENTATION,
            Capability.REWARD_PRED,
            Capability.CONTINUE_PRED,
            Capability.POLICY,
        }
    )

    def __init__(self, config):
        super().__init__(config)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(config.seed)
            self.build(config)
        self.contract = self.describe()

    def build(self, config):
        self.observation_encoder = Encoder(config)
        self.action_conditioner = Conditioner()
        self.dynamics_model = Dynamics(config)
        self.decoder = Decoder(config)
        self.rollout_executor = OpenLoop()
        self.posterior = nn.Linear(config.width, config.width)
        self.actor = nn.Linear(config.width, config.actions.dim)

    def io_contract(self):
        return self.contract

    def describe(self):
        specs, vector = self.config.modalities, ModalityKind.VECTOR
        decoded = {name: ModalitySpec(spec.kind, spec.shape) for name, spec in specs.items()}
        scalars = {name: ModalitySpec(vector, ()) for name in ("reward", "continue")}
        keys = ("obs", "actions", "rewards", "is_first", "is_terminal")
        return ModelIOContract(
            observation_spec=ObservationSpec(specs),
            action_spec=self.config.actions,
            state_spec=StateSpec({n: ModalitySpec(vector, (self.config.width,)) for n in ("memory", "latent")}),
            prediction_spec=PredictionSpec({**decoded, **scalars}),
            sequence_layout=SequenceLayout(dict.fromkeys(keys, "BT...")),
            required_batch_keys=keys,
            required_state_keys=("memory", "latent"),
        )

    def tokens(self, observations):
        return self.observation_encoder.encode(observations)["tokens"]

    def draw(self, like):
        return NOISE * torch.randn(like.shape, generator=self.generator(like.device))

    def see(self, memory, tokens, deterministic):
        latent = self.posterior(tokens)
        return State({"memory": memory, "latent": latent if deterministic else latent + self.draw(latent)})

    def encode(self, obs, deterministic=False):
        tokens = self.tokens(self.observations(obs))
        return self.see(torch.zeros_like(tokens), tokens, deterministic)

    def transition(self, state, action, conditions=None, deterministic=False):
        conditioned = self.condition(state, action, conditions)
        noise = {} if deterministic else {"noise": self.draw(state["latent"])}
        return self.dynamics_model.transition(state, {**conditioned, **noise}, deterministic=deterministic)

    def update(self, state, action, obs, conditions=None, deterministic=False):
        tokens = self.tokens(self.observations(obs))
        ahead = self.dynamics_model.transition(state, self.condition(state, action, conditions), deterministic=True)
        return self.see(ahead["memory"], tokens, deterministic)

    def loss(self, batch):
        self.validate_batch_contract(batch)
        obs, actions = self.observations(batch.obs), self.actions(batch.actions)
        tokens = self.tokens(obs)
        latent = self.see(torch.zeros_like(tokens), tokens, False)["latent"]
        before, done = (F.pad(value[:, :-1], (0, 0, 1, 0)) for value in (latent, actions))  # of the row before
        state = State({"memory": torch.zeros_like(before), "latent": before}).map(rows)
        ahead = self.dynamics_model.transition(state, self.condition(state, rows(done)), deterministic=True)
        memory = ahead["memory"] * rows(self.keep(batch))
        states = State({"memory": memory, "latent": rows(latent)})
        preds = self.decode(states).preds
        surprise = (ahead["latent"] - states["latent"].detach()) * rows(self.keep(batch))
        parts = {"prior": surprise.square().mean(), **self.decoding_losses(batch, obs, preds)}
        parts["actor"] = (self.actor(latent.detach()) - actions).square().mean()
        total = torch.stack(list(parts.values())).sum()
        latents = {name: value.detach().view_as(latent) for name, value in states.tensors.items()}
        return LossOutput(total, {name: part.detach() for name, part in parts.items()}, {}, latents)

    def keep(self, batch):
        """0 where an episode or the sequence starts, and with it the memory, else 1; ``[B, T, 1]``."""
        return F.pad((~batch.is_first[:, 1:, None]).float(), (0, 0, 1, 0))

    def decoding_losses(self, batch, obs, preds):
        target = flat(obs, self.config.modalities)
        shown = torch.cat([preds[name].flatten(1) for name in obs], -1).view_as(target)
        goes_on = preds["continue"].view_as(batch.rewards)
        return {
            "obs": (shown - target).square().mean(),
            "reward": (preds["reward"].view_as(batch.rewards) - batch.rewards).square().mean(),
            "continue": (goes_on - (~batch.is_terminal).float()).square().mean(),
        }

    def policy(self):
        return Policy(self)


class Policy:
    def __init__(self, model):
        self.model = model
        self.latent_spec = {"latent": ((model.config.width,), "float16")}

    def initial(self, batch_size):
        blank = torch.zeros(batch_size, self.model.config.actions.dim)
        return {**self.model.initial_state(batch_size).tensors, "action": blank}

    @torch.no_grad()
    def __call__(self, obs, carry, *, is_first, explore):
        model, certain = self.model, not explore
        fresh, after = model.encode(obs, certain), model.update(self.state(carry), carry["action"], obs, None, certain)
        first = is_first[:, None]
        state = {name: torch.where(first, fresh[name], after[name]) for name in fresh.tensors}
        action = self.choose(model.actor(state["latent"]), explore)
        return action, {**state, "action": action}

    def state(self, carry):
        return State({name: carry[name] for name in ("memory", "latent")})

    def choose(self, wish, explore):
        wish = wish + self.model.draw(wish) if explore else wish
        action = torch.tanh(wish)
        for part, place in self.model.config.actions.slices():
            if part.kind == "discrete":
                action[:, place] = F.one_hot(wish[:, place].argmax(-1), part.dim).float()
        return action

    def latents(self, carry):
        return {"latent": carry["latent"].half()}


@hookimpl
def worldflux_register_models(registrar):
    registrar.add("base-family", Model, Config)
