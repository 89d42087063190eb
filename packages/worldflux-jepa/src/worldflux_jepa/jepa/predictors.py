"""What comes next: predictors of the next latent from the last ones and what was done. The slot ``dynamics_model``."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from worldflux import State
from worldflux.blocks import Linear, action_in, folded

from .config import JEPAConfig
from .encoders import normed_mlp
from .window import Window, window_of


class Predictor(nn.Module, ABC):
    """From a state and what the conditioner says of the action to the next latent."""

    def __init__(self, config: JEPAConfig, *, outputs: int | None = None) -> None:
        super().__init__()
        self.tokens, self.action_dim = config.num_tokens, config.action_dim
        inputs, units = outputs or config.latent_dim, config.head_units
        head = normed_mlp(inputs, units, config.latent_dim) if units else []
        self.head = nn.Sequential(*head)

    def transition(self, state: State, conditioned: dict[str, Tensor], deterministic: bool = False) -> State:
        """The next row's ``latent [B, D]``, or ``[B, N, D]``; ``conditioned["drop"]`` is dropout's seed."""
        action = action_in(conditioned, like=state["latent"].flatten(1), size=self.action_dim)
        window = window_of(state, action, tokens=self.tokens)
        ahead = self.headed(self.predict(window, drawing(conditioned, state.device)))
        return State({"latent": ahead.squeeze(1) if self.tokens == 1 else ahead})

    def headed(self, latents: Tensor) -> Tensor:
        """``[..., D]`` through the head; its batch norm takes all rows together."""
        return folded(self.head, latents, rank=1) if len(self.head) else latents

    @abstractmethod
    def predict(self, window: Window, generator: torch.Generator | None) -> Tensor:
        """Latents ``[B, N, D]`` of the row after the window, or what the head makes such of."""


def drawing(conditioned: dict[str, Tensor], device: torch.device) -> torch.Generator | None:
    """What dropout draws from: in training an update brings a seed, else there is none."""
    seed = conditioned.get("drop")
    return None if seed is None else torch.Generator(device).manual_seed(int(seed.flatten()[0]))


class ResidualMLP(Predictor):
    """Adds to the newest latent what an MLP says of the window and the actions done in it; rows that are not, are 0."""

    def __init__(self, config: JEPAConfig) -> None:
        super().__init__(config)
        inputs = config.history * (config.latent_dim + config.action_dim)
        layers: list[nn.Module] = []
        for before in (inputs, *[config.units] * (config.depth - 1)):
            layers += [Linear(before, config.units), nn.LayerNorm(config.units), nn.GELU()]
        self.layers = nn.Sequential(*layers, Linear(config.units, config.latent_dim))

    def predict(self, window: Window, generator: torch.Generator | None) -> Tensor:
        """See ``Predictor``; each of N latents by itself."""
        size, _, tokens, _ = window.latents.shape
        real = window.seen[:, -1, :, None, None].to(window.latents)
        actions = window.actions.unsqueeze(2).expand(-1, -1, tokens, -1).to(window.latents)
        seen = torch.cat([window.latents, actions], -1) * real
        return window.latents[:, -1] + self.layers(seen.transpose(1, 2).reshape(size, tokens, -1))


class Cell(Predictor):
    """A gated recurrent unit whose input is the action and whose hidden state is the latent."""

    def __init__(self, config: JEPAConfig) -> None:
        super().__init__(config)
        self.cell = GRU(config.action_dim, config.latent_dim)

    def predict(self, window: Window, generator: torch.Generator | None) -> Tensor:
        """See ``Predictor``; each of N latents by itself."""
        latents = window.latents[:, -1]
        actions = window.actions[:, -1:].expand(-1, latents.shape[1], -1)
        return self.cell(actions.flatten(0, 1).to(latents), latents.flatten(0, 1)).reshape(latents.shape)


class GRU(nn.GRUCell):
    """torch's, without its initialisation."""

    def reset_parameters(self) -> None:
        """Leave the weights as they were allocated."""
