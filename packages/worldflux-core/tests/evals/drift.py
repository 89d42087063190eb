"""A point that its actions push about, recorded, and world models that know it exactly, partly, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from worldflux.core.config import WorldModelConfig
from worldflux.core.model import WorldModel
from worldflux.core.output import ModelOutput
from worldflux.core.spec import ActionSpec, Capability, ModalitySpec, StateSpec, vector
from worldflux.core.state import State
from worldflux.data import Dataset, EpisodeTable, Recording

PUSH, EDGE, SIZE, GREY = 0.5, 4.0, 14, 40
WORTH = torch.tensor([1.0, 0.25])


def dataset(*, episodes=24, length=40, seed=0, images=False, ends=True, stand_in=False, rewards=True, still=False):
    """Episodes of a point in the plane under random pushes; beyond an edge (with ``ends``) they are over."""
    rng = np.random.default_rng(seed)
    rows, lengths, terminal = [], [], []
    for _ in range(episodes):
        place, own = rng.normal(size=2) * 2 if not images else rng.integers(3, SIZE - 3, 2).astype(float), []
        reward, over = 0.0, False
        while not over and len(own) < length:
            action = rng.uniform(-1, 1, 2) if not images else rng.integers(-1, 2, 2).astype(float)
            own.append((place, action, reward))
            over = ends and not images and len(own) > 1 and abs(place[0]) > EDGE
            place = place if still else place + action * (1 if images else PUSH)
            place = place % SIZE if images else place
            reward = float(place @ WORTH.numpy())
        rows += own
        lengths.append(len(own))
        terminal.append(over)
    table = EpisodeTable.of(range(episodes), lengths, terminal, [stand_in] * episodes)
    places = np.array([row[0] for row in rows], np.float32)
    if stand_in:  # the last row's observation is another's
        lasts = np.cumsum(lengths) - 1
        places[lasts] = 1000.0
    shown = picture(places) if images else places
    spec = ModalitySpec("image", (1, SIZE, SIZE), "uint8") if images else ModalitySpec("vector", (2,))
    columns = {"obs/place": shown, "action": np.array([row[1] for row in rows], np.float32)}
    columns["info/sum"] = places.sum(1, keepdims=True).astype(np.float32)
    if rewards:
        columns["reward"] = np.array([row[2] for row in rows], np.float32)
    return Dataset(
        Recording(
            "drift",
            Path("drift"),
            {"place": spec},
            ActionSpec("continuous", 2),
            table,
            columns,
            {"sum": ModalitySpec("vector", (1,))},
        )
    )


def picture(places):
    """Images uint8 ``[N, 1, SIZE, SIZE]`` of a bright point on grey."""
    images = np.full((len(places), 1, SIZE, SIZE), GREY, np.uint8)
    x, y = (np.rint(places[:, i]).astype(int) % SIZE for i in range(2))
    images[np.arange(len(places)), 0, y, x] = 255
    return images


class Drift(WorldModel):
    """Knows the point where ``know`` gave it the weights for that; ``but`` names what it does not know."""

    capabilities = frozenset({Capability.REWARD_PRED, Capability.CONTINUE_PRED, Capability.VALUE})

    def __init__(self, config):
        super().__init__(config)
        self.but, self.images = "", len(config.obs_shape) == 3
        for name in ("read", "write", "push"):
            setattr(self, name, nn.Parameter(torch.zeros(2, 2)))
        self.worth = nn.Parameter(torch.zeros(2))
        generator = torch.Generator().manual_seed(config.seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def know(self, but=""):
        self.but = but
        with torch.no_grad():
            self.read.copy_(torch.eye(2))
            self.write.copy_(torch.eye(2))
            self.push.copy_(torch.eye(2) * (1 if self.images else PUSH))
            self.worth.copy_(WORTH)
        return self

    def state_spec(self):
        return StateSpec({"place": vector(2)})

    def begin(self, obs, *, deterministic):
        place = obs["place"]
        if self.images:
            brightest = place.flatten(1).float().argmax(-1)
            place = torch.stack([brightest % SIZE, brightest // SIZE], -1).float()
        return State({"place": place @ self.read})

    def advance(self, state, action, conditioned, *, deterministic):
        moved = action.unflatten(-1, (-1, 2)).sum(-2) @ self.push
        if self.but == "actions":
            moved = torch.zeros_like(moved)
        if self.but == "anything":
            return state
        if self.but == "certainty" and not deterministic:
            moved = moved + torch.randn(moved.shape, generator=self.generator())
        ahead = state["place"] + moved
        return State({"place": ahead % SIZE if self.images else ahead})

    def decode(self, state, conditions=None):
        place = state["place"] @ self.write
        shown = torch.from_numpy(picture(place.numpy())).float() / 255 if self.images else place
        reward = torch.zeros(len(place)) if self.but == "rewards" else place @ self.worth
        going_on = torch.ones(len(place)) if self.images else (place[:, 0].abs() <= EDGE).float()
        preds = {"place": shown, "reward": reward, "continue": going_on}
        if self.but == "observations":
            del preds["place"]
        return ModelOutput(preds, state=state)

    def state_value(self, state):
        return state["place"] @ self.write @ self.worth

    def loss(self, batch):
        raise AssertionError("nothing is learnt here")


def model(*, images=False, seed=0, frame_skip=1):
    """A model with weights drawn from its seed; with ``frame_skip`` its actions are so many of the data's."""
    shape, kind, dtype = ((1, SIZE, SIZE), "image", "uint8") if images else ((2,), "vector", "float32")
    modalities = {"place": {"shape": shape, "kind": kind, "dtype": dtype}}
    return Drift(WorldModelConfig(observation_modalities=modalities, action_dim=2 * frame_skip, seed=seed))
