"""A small family with every slot, stochastic latents and a policy: learns the echo world in a second."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from worldflux import (
    SLOTS,
    Capability,
    Count,
    LossOutput,
    ModalityKind,
    Positive,
    PredictionSpec,
    State,
    StateSpec,
    Trajectory,
    WorldModel,
    WorldModelConfig,
    decoded,
    decoder_losses,
    vector,
)
from worldflux.plugins import hookimpl

NOISE = 0.05  # standard deviation of the latents


@dataclass
class Config(WorldModelConfig):
    model_type: str = "base-family"
    obs_shape: tuple[int, ...] = (6,)
    action_dim: int = 3
    width: Count = 16
    learning_rate: Positive = 1e-2


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
        value = scaled(observations[name])
        parts.append(value.flatten(value.ndim - len(spec.shape)))
    return torch.cat(parts, -1)


def scaled(value):
    return value.float() if value.is_floating_point() else value / 255


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

    def losses(self, state, targets):
        preds, found = self.decode(state.map(rows)), {}
        for name, target in targets.items():
            error = preds[name].reshape(target.shape) - scaled(target)
            key = {"reward": "rew", "continue": "con"}.get(name, name)
            found[key] = error.square().reshape(*target.shape[:2], -1).mean(-1)
        return found


class Actor(nn.Linear):
    def __init__(self, config):
        super().__init__(config.width, config.actions.dim)

    def wish(self, latent):
        return self(latent)


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
    slots = {**SLOTS, "actor": "wish"}
    batch_keys = ("obs", "actions", "rewards", "is_first", "is_terminal")

    def __init__(self, config):
        super().__init__(config)
        with torch.random.fork_rng(devices=[]):  # torch's layers draw at once what initialise sets
            self.build(config)
        self.initialise()

    def build(self, config):
        self.observation_encoder = Encoder(config)
        self.action_conditioner = Conditioner()
        self.dynamics_model = Dynamics(config)
        self.decoder = Decoder(config)
        self.rollout_executor = OpenLoop()
        self.posterior = nn.Linear(config.width, config.width)
        self.actor = Actor(config)

    def initialise(self):
        generator = torch.Generator().manual_seed(self.config.seed)
        for _, value in sorted(self.named_parameters()):  # by name: an override stands last among the modules
            bound = value[0].numel() ** -0.5 if value.ndim > 1 else 0.0
            nn.init.uniform_(value, -bound, bound, generator=generator)

    def state_spec(self):
        return StateSpec({name: vector(self.config.width) for name in ("memory", "latent")})

    def prediction_spec(self):
        return PredictionSpec({**decoded(self.config.modalities), "reward": vector(), "continue": vector()})

    def tokens(self, observations):
        return self.encoded(observations, "tokens", self.config.width)

    def draw(self, like):
        return NOISE * torch.randn(like.shape, generator=self.generator(like.device))

    def see(self, memory, tokens, deterministic):
        latent = self.posterior(tokens)
        return State({"memory": memory, "latent": latent if deterministic else latent + self.draw(latent)})

    def begin(self, obs, *, deterministic):
        tokens = self.tokens(obs)
        return self.see(torch.zeros_like(tokens), tokens, deterministic)

    def advance(self, state, action, conditioned, *, deterministic):
        noise = {} if deterministic else {"noise": self.draw(state["latent"])}
        return self.dynamics_model.transition(state, {**conditioned, **noise}, deterministic=deterministic)

    def correct(self, state, action, conditioned, obs, *, deterministic):
        tokens = self.tokens(obs)
        ahead = self.dynamics_model.transition(state, conditioned, deterministic=True)
        return self.see(ahead["memory"], tokens, deterministic)

    def loss(self, batch):
        batch = self.checked(batch)
        obs, actions = batch.obs, batch.actions
        tokens = self.tokens(obs)
        latent = self.see(torch.zeros_like(tokens), tokens, False)["latent"]
        before, done = (F.pad(value[:, :-1], (0, 0, 1, 0)) for value in (latent, actions))  # of the row before
        state = State({"memory": torch.zeros_like(before), "latent": before}).map(rows)
        ahead = self.dynamics_model.transition(state, self.condition(state, rows(done)), deterministic=True)
        ahead = ahead.map(lambda value: value.view_as(latent) * self.keep(batch))
        states = State({"memory": ahead["memory"], "latent": latent})
        targets = {**obs, "reward": batch.rewards, "continue": (~batch.is_terminal).float()}
        shown = decoder_losses(self.decoder, states, targets, modalities=self.config.modalities)
        parts = {name: value.mean() for name, value in shown.items()}
        parts["prior"] = (ahead["latent"] - latent.detach() * self.keep(batch)).square().mean()
        parts["actor"] = (self.actor.wish(latent.detach()) - actions).square().mean()
        total = torch.stack(list(parts.values())).sum()
        latents = {name: value.detach() for name, value in states.tensors.items()}
        return LossOutput(total, {name: part.detach() for name, part in parts.items()}, {}, latents)

    def keep(self, batch):
        """0 where an episode or the sequence starts, and with it the memory, else 1; ``[B, T, 1]``."""
        return F.pad((~batch.is_first[:, 1:, None]).float(), (0, 0, 1, 0))

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
        seen = model.observations(obs)
        fresh, after = (
            model.encode(seen, certain),
            model.update(self.state(carry), carry["action"], seen, None, certain),
        )
        first = is_first[:, None]
        state = {name: torch.where(first, fresh[name], after[name]) for name in fresh.tensors}
        action = self.choose(model.actor.wish(state["latent"]), explore)
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
