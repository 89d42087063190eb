"""The recurrent state-space model with Gaussian latents.

Letters: D deter, S stoch, E tokens, A action.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldflux.core.state import State

from .config import PlaNetConfig
from .networks import GRU, Dense, Gaussian, draw


class Dynamics(nn.Module):
    """Gated recurrence and the prior over the next latents.

    Source: Hafner et al. 2019 (PlaNet) eq. 4.
    """

    def __init__(self, config: PlaNetConfig) -> None:
        super().__init__()
        self.action_dim = config.actions.dim
        self.join = Dense(config.stoch_dim + self.action_dim, config.hidden_dim)
        self.gru = GRU(config.hidden_dim, config.deter_dim)
        self.prior = Gaussian(config.deter_dim, config.hidden_dim, config.stoch_dim, min_std=config.min_std)

    def transition(self, state: State, conditioned: dict[str, Tensor], deterministic: bool = False) -> State:
        """Next ``deter [..., D]`` and ``stoch [..., S]``, sampled by ``conditioned["noise"] [..., S]`` (normal).

        ``mean`` and ``std`` ``[..., S]`` are the prior's. Without ``conditioned["action"]`` no action is done.
        """
        action = conditioned.get("action")
        if action is None:
            action = state["deter"].new_zeros(*state["deter"].shape[:-1], self.action_dim)
        deter = self.gru(self.join(torch.cat([state["stoch"], action], -1)), state["deter"])
        mean, std = self.prior(deter)
        stoch = draw(mean, std, None if deterministic else conditioned["noise"])
        return State({"deter": deter, "stoch": stoch, "mean": mean, "std": std})


class Posterior(nn.Module):
    """The latents given what was seen: mean and deviation ``[..., S]`` from ``deter [..., D]``, tokens ``[..., E]``."""

    def __init__(self, config: PlaNetConfig, token_dim: int) -> None:
        super().__init__()
        self.token_dim = token_dim
        self.head = Gaussian(config.deter_dim + token_dim, config.hidden_dim, config.stoch_dim, min_std=config.min_std)

    def forward(self, deter: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(torch.cat([deter, tokens], -1))


def prior_of(state: State, min_std: float) -> tuple[Tensor, Tensor]:
    """The prior's mean and deviation ``[..., S]``; of dynamics that give none, those of a certain prediction."""
    mean, std = state.get("mean"), state.get("std")
    if mean is None or std is None:
        return state["stoch"], torch.full_like(state["stoch"], min_std)
    return mean, std
