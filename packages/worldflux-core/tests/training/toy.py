"""A model and sources small enough to train in milliseconds, and a run of them that another process can start."""

from __future__ import annotations

import argparse
import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from worldflux.core.batch import Batch
from worldflux.core.config import WorldModelConfig
from worldflux.core.model import WorldModel
from worldflux.core.output import LossOutput
from worldflux.training import Callback, Trainer, TrainingConfig


class ToyModel(WorldModel):
    """Predicts the next observation; draws from torch's global generator (dropout) and from its own (noise)."""

    def __init__(self, *, dropout: float = 0.5, noise: float = 0.1, context_rows: int = 0, defaults=None) -> None:
        super().__init__(WorldModelConfig(model_type="toy-of-tests", obs_shape=(3,), action_dim=2, learning_rate=1e-2))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.encoder = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(dropout))
            self.head = nn.Linear(8, 3)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.noise, self.context_rows, self.defaults = noise, context_rows, defaults or {}
        self.seen_shapes: list[tuple[int, ...]] = []

    def training_defaults(self) -> dict[str, object]:
        return self.defaults

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


class WalkSource:
    """An environment that cannot be saved mid-episode, and the rows it gave; a fresh episode begins from a seed."""

    replay_ratio = 4.0

    def __init__(self) -> None:
        self.rng, self.rows, self.walk, self.env_steps = np.random.default_rng(1), np.zeros((0, 3), np.float32), None, 0

    def _step(self) -> None:
        if self.walk is None:
            self.walk = np.random.default_rng(int(self.rng.integers(2**31)))
            self.position = self.walk.standard_normal(3).astype(np.float32)
        self.position = 0.9 * self.position + self.walk.standard_normal(3).astype(np.float32)
        self.rows = np.concatenate([self.rows, self.position[None]])
        self.env_steps += 1

    def sample(self, request) -> Batch:
        for _ in range(2 if len(self.rows) > 8 else 9):
            self._step()
        starts = self.rng.integers(len(self.rows) - request.seq_len + 1, size=request.batch_size)
        obs = torch.from_numpy(np.stack([self.rows[s : s + request.seq_len] for s in starts]))
        return Batch(obs=obs, actions=obs[..., :2].clone())

    def metrics(self):
        return {"episode/return": float(self.rows[-1].sum())}

    def checkpoint_boundary(self) -> None:
        self.walk = None

    def state_dict(self):
        return {"rows": self.rows}, {"rng": self.rng.bit_generator.state, "env_steps": self.env_steps}

    def load_state_dict(self, arrays, meta) -> None:
        self.rng.bit_generator.state, self.env_steps = meta["rng"], meta["env_steps"]
        self.rows, self.walk = np.array(arrays["rows"]), None


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


def main(arguments: list[str] | None = None) -> Trainer:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--source", default="NoiseSource")
    parser.add_argument("--signal")
    parser.add_argument("--at", type=int, default=0)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args(arguments)
    callbacks = [Killer(signal.Signals[given.signal], given.at)] if given.signal else []
    trainer = Trainer(ToyModel(), options(Path(given.directory), total_steps=given.steps), callbacks)
    trainer.train(globals()[given.source](), resume_from=given.directory if given.resume else None)
    return trainer


if __name__ == "__main__":
    main()
