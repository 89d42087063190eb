"""A clockwork environment and the model that knows it exactly."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from worldflux.core.output import ModelOutput
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.core.state import State
from worldflux.envs import Step

SIZE = 8


class Clockwork:
    """Environment ``i`` ends after ``lengths[i]`` steps. The observation adds the actions up, starting from the
    environment's number; arriving pays the action that led there. With ``images`` a bright pixel marks the place."""

    def __init__(self, lengths, *, images=False):
        self.lengths = np.array(lengths)
        self.num_envs = len(lengths)
        self.action_spec = ActionSpec(kind="continuous", dim=1)
        shape = (1, SIZE, SIZE) if images else (1,)
        kind, dtype = ("image", "uint8") if images else ("vector", "float32")
        self.obs_spec = {"obs": ModalitySpec(kind=kind, shape=shape, dtype=dtype, name="obs")}
        self.images, self.seeds = images, []

    def reset(self, seed=None):
        self.seeds.append(seed)
        self.time = np.zeros(self.num_envs, int)
        self.place = np.arange(self.num_envs, dtype=np.float32)
        return self._step(np.zeros(self.num_envs, np.float32))

    def step(self, actions):
        assert actions.shape == (self.num_envs, 1)
        over = self.time == self.lengths
        self.time = np.where(over, 0, self.time + 1)
        self.place = np.where(over, np.arange(self.num_envs), self.place + actions[:, 0]).astype(np.float32)
        return self._step(np.where(over, 0, actions[:, 0]).astype(np.float32))

    def _step(self, reward):
        last = self.time == self.lengths
        return Step(
            obs={"obs": draw(self.place) if self.images else self.place[:, None].copy()},
            reward=reward,
            is_first=self.time == 0,
            is_last=last,
            is_terminal=last,
        )

    def close(self):
        pass


def draw(place):
    """Return uint8 images [N, 1, SIZE, SIZE] with one bright pixel in the first line."""
    images = np.zeros((len(place), 1, SIZE, SIZE), np.uint8)
    images[np.arange(len(place)), 0, 0, np.rint(place).astype(int) % SIZE] = 255
    return images


class Always:
    """Does the same action always, and counts in its carry the rows since the episode began."""

    latent_spec = {}

    def __init__(self, action=1.0):
        self.action, self.seen = action, []

    def initial(self, batch_size):
        return {"rows": torch.zeros(batch_size)}

    def __call__(self, obs, carry, *, is_first, explore):
        rows = torch.where(is_first, 0.0, carry["rows"] + 1)
        self.seen.append((rows.tolist(), explore))
        return torch.full((len(is_first), 1), self.action), {"rows": rows}

    def latents(self, carry):
        return {}


class Alternating(Always):
    """Does 1 in even environments and 2 in odd ones."""

    def __call__(self, obs, carry, *, is_first, explore):
        action, carry = super().__call__(obs, carry, is_first=is_first, explore=explore)
        action[1::2] = 2.0
        return action, carry


class Knowing(nn.Module):
    """Knows the clockwork. ``blind`` ignores actions; ``late`` pays a row too late."""

    def __init__(self, *, images=False, blind=False, late=False):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        self.images, self.blind, self.late = images, blind, late

    def encode(self, obs, deterministic=False):
        assert set(obs) == {"obs"}
        place = obs["obs"][:, 0, 0].float().argmax(-1).float() if self.images else obs["obs"][:, 0]
        return State({"place": place, "paid": torch.zeros_like(place), "before": torch.zeros_like(place)})

    def update(self, state, action, obs, deterministic=False):
        seen = self.encode(obs)
        return State({**seen.tensors, "paid": action[:, 0], "before": state.tensors["paid"]})

    def rollout(self, state, actions, deterministic=False):
        states = [state]
        for action in actions:
            move = torch.zeros_like(action[:, 0]) if self.blind else action[:, 0]
            now = states[-1].tensors
            states.append(State({"place": now["place"] + move, "paid": move, "before": now["paid"]}))
        return SimpleNamespace(states=states)

    def decode(self, state):
        place = state.tensors["place"]
        obs = torch.from_numpy(draw(place.numpy())).float() / 255 if self.images else place[:, None]
        reward = state.tensors["before" if self.late else "paid"]
        return ModelOutput({"obs": obs, "reward": reward[:, None], "continue": torch.ones_like(reward)})


@pytest.fixture
def toys():
    return SimpleNamespace(Clockwork=Clockwork, Always=Always, Alternating=Alternating, Knowing=Knowing)


@pytest.fixture(scope="session")
def drift() -> ModuleType:
    """The module with a recorded world and the models that know it, partly or not at all."""
    spec = importlib.util.spec_from_file_location("worldflux_evals_drift", Path(__file__).parent / "drift.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
