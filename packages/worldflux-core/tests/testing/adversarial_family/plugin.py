"""Two players and a tokenizer: an update is three steps, each judged by what the one before has moved.

A tokenizer learns to tell observations apart; a generator predicts the next tokens and has to please a critic; the
critic learns to tell what it predicts from what came.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from worldflux import Capability, LossOutput, State, StateSpec, WorldModel, WorldModelConfig, vector
from worldflux.plugins import hookimpl

WIDTH = 8
GROUPS = ("tokenizer", "generator", "critic")


class Tokenizer(nn.Module):
    def __init__(self, config):
        super().__init__()
        size = config.obs_shape[0]
        self.into, self.back = nn.Linear(size, WIDTH), nn.Linear(WIDTH, size)

    def encode(self, observations):
        return State({"tokens": torch.tanh(self.into(observations["obs"]))})


class Generator(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.linear = nn.Linear(WIDTH + config.actions.dim, WIDTH)

    def transition(self, state, conditioned, deterministic=False):
        return State({"tokens": torch.tanh(self.linear(torch.cat([state["tokens"], conditioned["action"]], -1)))})


class PassAction:
    def condition(self, state, action, conditions=None):
        return {"action": action}


class Model(WorldModel):
    capabilities = frozenset({Capability.LATENT_DYNAMICS, Capability.REPRESENTATION})
    batch_keys = ("obs", "actions", "is_first")

    def __init__(self, config):
        super().__init__(config)
        with torch.random.fork_rng(devices=[]):
            self.observation_encoder = Tokenizer(config)
            self.action_conditioner = PassAction()
            self.dynamics_model = Generator(config)
            self.critic = nn.Sequential(nn.Linear(2 * WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 1))
        self.initialise()

    def initialise(self):
        generator = torch.Generator().manual_seed(self.config.seed)
        for _, value in sorted(self.named_parameters()):
            nn.init.normal_(value, std=0.3 if value.ndim > 1 else 0.0, generator=generator)

    def state_spec(self):
        return StateSpec({"tokens": vector(WIDTH)})

    def parameter_groups(self):
        parts = (self.observation_encoder, self.dynamics_model, self.critic)
        return [
            {"params": list(part.parameters()), "lr": self.config.learning_rate, "group": name}
            for name, part in zip(GROUPS, parts)
        ]

    def steps(self, batch):
        batch = self.checked(batch)
        yield self.tokenizer_loss(batch)
        tokens = self.tokens(batch).detach()  # by the tokenizer as it is now
        yield self.generator_loss(batch, tokens)
        yield self.critic_loss(batch, tokens)  # of what the generator predicts now

    def loss(self, batch):
        batch = self.checked(batch)
        tokens = self.tokens(batch).detach()
        parts = [self.tokenizer_loss(batch), self.generator_loss(batch, tokens), self.critic_loss(batch, tokens)]
        components = {name: value for part in parts for name, value in part.components.items()}
        return LossOutput(torch.stack([part.loss for part in parts]).sum(), components)

    def tokens(self, batch):
        return self.encoded(batch.obs, "tokens", WIDTH)

    def tokenizer_loss(self, batch):
        again = self.observation_encoder.back(self.tokens(batch))
        loss = (again - batch.obs["obs"]).square().mean()
        return LossOutput(loss, {"tokens": loss.detach()}, group="tokenizer")

    def generator_loss(self, batch, tokens):
        ahead, weight = self.ahead(batch, tokens), (~batch.is_first[:, 1:, None]).float()
        near = ((ahead - tokens[:, 1:]).square() * weight).mean()
        fools = F.softplus(-self.judged(tokens, ahead, learns=False) * weight).mean()
        found = {"near": near.detach(), "fools": fools.detach()}
        return LossOutput(near + 0.01 * fools, found, group="generator")

    def critic_loss(self, batch, tokens):
        ahead = self.ahead(batch, tokens).detach()
        told = F.softplus(-self.judged(tokens, tokens[:, 1:])) + F.softplus(self.judged(tokens, ahead))
        return LossOutput(told.mean(), {"critic": told.mean().detach()}, group="critic")

    def ahead(self, batch, tokens):
        """What is predicted for every row but the first, ``[B, T - 1, D]``."""
        before, done = State({"tokens": tokens[:, :-1].flatten(0, 1)}), batch.actions[:, :-1].flatten(0, 1)
        after = self.dynamics_model.transition(before, self.condition(before, done))
        return after["tokens"].unflatten(0, (tokens.shape[0], -1))

    def judged(self, tokens, after, *, learns=True):
        pair = torch.cat([tokens[:, :-1], after], -1)
        weights = {name: value if learns else value.detach() for name, value in self.critic.named_parameters()}
        return torch.func.functional_call(self.critic, weights, (pair,))


@hookimpl
def worldflux_register_models(registrar):
    registrar.add("adversarial-family", Model, WorldModelConfig)
