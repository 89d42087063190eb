"""A model and sources small enough to train in milliseconds, and a run of them that another process can start."""

from __future__ import annotations

import argparse
import os
import signal
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from worldflux.core.batch import Batch
from worldflux.core.config import WorldModelConfig
from worldflux.core.model import WorldModel
from worldflux.core.output import LossOutput
from worldflux.data import EnvironmentSource
from worldflux.envs import make_env
from worldflux.recipe import Recipe
from worldflux.training import Callback, CollectConfig, Trainer, TrainingConfig, environment_source


class ToyModel(WorldModel):
    """Predicts the next observation; draws from torch's global generator (dropout) and from its own (noise)."""

    def policy(self) -> Pusher:
        return Pusher(self)

    def __init__(self, *, dropout: float = 0.5, noise: float = 0.1, context_rows: int = 0, defaults=None) -> None:
        super().__init__(WorldModelConfig(model_type="toy-of-tests", obs_shape=(3,), action_dim=2, learning_rate=1e-2))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.encoder = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(dropout))
            self.head = nn.Linear(8, 3)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.noise, self.context_rows, self.defaults = noise, context_rows, defaults or {}
        self.seen_shapes: list[tuple[int, ...]] = []

    def training_defaults(self) -> Recipe:
        return Recipe(**self.defaults)

    def loss(self, batch: Batch) -> LossOutput:
        obs = batch.obs["obs"] if isinstance(batch.obs, dict) else batch.obs
        self.seen_shapes.append(tuple(obs.shape))
        hidden = self.encoder(torch.cat([obs, batch.actions], -1))
        hidden = hidden + self.noise * torch.randn(hidden.shape, generator=self.generator())
        error = (self.head(hidden[:, :-1]) - obs[:, 1:]).square().mean()
        size = 0.01 * hidden.square().mean()
        rows = obs.shape[1] - self.context_rows
        latents = {"hidden": hidden[:, -rows:].detach()}
        return LossOutput(error + size, {"recon": error, "size": size}, {"hidden": hidden.mean()}, latents)

    def on_after_optimizer_step(self) -> None:
        self.updates += 1


def batch_of(rng: np.random.Generator, size: int, rows: int) -> Batch:
    obs = rng.standard_normal((size, rows, 3), dtype=np.float32)
    return Batch(obs=torch.from_numpy(obs), actions=torch.from_numpy(obs[..., :2].copy()))


class NoiseSource:
    """Random batches from its own generator."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.requests, self.written = [], []

    def sample(self, request) -> Batch:
        self.requests.append(request)
        return batch_of(self.rng, request.batch_size, request.seq_len)

    def update(self, batch, latents) -> None:
        self.written.append({name: tuple(value.shape) for name, value in latents.items()})

    def state_dict(self):
        return {}, {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, arrays, meta) -> None:
        self.rng.bit_generator.state = meta["rng"]


class Walk(gym.Env):
    """A random walk pushed by the action; an episode is 7 steps."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.position = 0, self.np_random.standard_normal(3).astype(np.float32)
        return self.position, {}

    def step(self, action):
        push = np.array([*action, 0], np.float32)
        self.time += 1
        self.position = 0.9 * self.position + push + 0.1 * self.np_random.standard_normal(3).astype(np.float32)
        return self.position, float(self.position.sum()), False, self.time == 7, {}


class Pusher:
    """A policy whose actions depend on the model, on its generator and on a carry."""

    latent_spec = {"hidden": ((8,), "float32")}

    def __init__(self, model: ToyModel) -> None:
        self.model = model

    def initial(self, batch_size: int):
        return {"hidden": torch.zeros(batch_size, 8)}

    def __call__(self, obs, carry, *, is_first, explore):
        hidden = torch.where(is_first[:, None], 0.0, carry["hidden"])
        noise = torch.rand(len(is_first), 2, generator=self.model.generator())
        hidden = 0.5 * hidden + self.model.encoder(torch.cat([obs["obs"], noise], -1))
        return torch.tanh(hidden[:, :2] + noise - 0.5), {"hidden": hidden}

    def latents(self, carry):
        return carry


class Killer(Callback):
    """Sends this very process a signal after a step."""

    def __init__(self, number: int, step: int) -> None:
        self.number, self.step = number, step

    def on_step_end(self, trainer) -> None:
        if trainer.step == self.step:
            os.kill(os.getpid(), self.number)
            time.sleep(0.01)  # Python runs a handler between bytecodes


def options(directory: Path, **changes) -> TrainingConfig:
    given = {"batch_size": 4, "sequence_length": 5, "total_steps": 12, "save_interval": 4, "log_interval": 3, "seed": 7}
    return TrainingConfig(**{**given, "output_dir": str(directory), "device": "cpu", **changes})


def walking(model: ToyModel, config: TrainingConfig) -> EnvironmentSource:
    collect = CollectConfig(replay_ratio=4.0, replay_capacity=40)
    return environment_source(model, make_env(Walk, num_envs=2), training=config, collect=collect, policy=Pusher(model))


def items() -> list[Batch]:
    return [batch_of(np.random.default_rng(i), 4, 5) for i in range(5)]


SOURCES = {
    "noise": lambda model, config: NoiseSource(),
    "environment": walking,
    "iterable": lambda model, config: items(),
}


def main(arguments: list[str] | None = None) -> Trainer:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--source", default="noise", choices=SOURCES)
    parser.add_argument("--signal")
    parser.add_argument("--at", type=int, default=0)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args(arguments)
    callbacks = [Killer(signal.Signals[given.signal], given.at)] if given.signal else []
    model, config = ToyModel(), options(Path(given.directory), total_steps=given.steps)
    trainer = Trainer(model, config, callbacks)
    trainer.train(SOURCES[given.source](model, config), resume_from=given.directory if given.resume else None)
    return trainer


if __name__ == "__main__":
    main()
