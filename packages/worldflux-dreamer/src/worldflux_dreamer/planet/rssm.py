"""The recurrent state-space model with Gaussian latents: one step of it, and sequences.

Letters: B sequences, T rows, D deter, S stoch, E tokens, A action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from worldflux import State
from worldflux.blocks import action_in, gaussian_kl

from ..recurrent import follow, latent, predict
from .config import PlaNetConfig
from .losses import Normal, free
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
        action = action_in(conditioned, like=state["deter"], size=self.action_dim)
        deter = self.gru(self.join(torch.cat([state["stoch"], action], -1)), state["deter"])
        mean, std = self.prior(deter)
        stoch = draw(mean, std, None if deterministic else conditioned["noise"])
        return State({"deter": deter, "stoch": stoch, "mean": mean, "std": std})


class Posterior(nn.Module):
    """The latents given what was seen: mean and deviation ``[..., S]`` from ``deter [..., D]``, tokens ``[..., E]``."""

    def __init__(self, config: PlaNetConfig, token_dim: int) -> None:
        super().__init__()
        self.token_dim, self.min_std = token_dim, config.min_std
        self.head = Gaussian(config.deter_dim + token_dim, config.hidden_dim, config.stoch_dim, min_std=config.min_std)

    def forward(self, deter: Tensor, tokens: Tensor) -> Normal:
        return self.head(torch.cat([deter, tokens], -1))


@dataclass
class Trace:
    """Posterior and prior along rows, and the filtered states, all ``[B, T, ...]``."""

    post: Normal
    prior: Normal
    state: State


def observe(
    dynamics: Any,
    conditioner: Any,
    posterior: Posterior,
    *,
    start: State,
    action: Tensor,
    is_first: Tensor,
    tokens: Tensor,
    noise: Tensor | None,
) -> Trace:
    """Follow rows ``[B, T, ...]``, correcting each predicted state by what was seen.

    ``action`` led to each row, but where ``is_first``: there state and action are zeros. ``noise [B, T, S]`` is normal.
    """
    state, found = start, []
    for t in range(tokens.shape[1]):
        ahead = follow(dynamics, conditioner, state, action[:, t], is_first[:, t])
        mean, std = posterior(ahead["deter"], tokens[:, t])
        state = State({"deter": ahead["deter"], "stoch": draw(mean, std, None if noise is None else noise[:, t])})
        found.append((state["deter"], state["stoch"], mean, std, *prior_of(ahead, posterior.min_std)))
    deter, stoch, mean, std, prior_mean, prior_std = (torch.stack(series, 1) for series in zip(*found))
    return Trace((mean, std), (prior_mean, prior_std), State({"deter": deter, "stoch": stoch}))


def overshoot(
    dynamics: Any,
    conditioner: Any,
    trace: Trace,
    *,
    action: Tensor,
    is_first: Tensor,
    weight: Tensor | None,
    noise: Tensor | None,
    distance: int,
    free_nats: float,
    min_std: float,
) -> Tensor:
    """Mean divergence, in nats, of what was seen from all that was predicted 2, 3, … ``distance`` steps before.

    From each state the prior runs on by itself, by normal ``noise [distance, B, T, S]``; the posterior, which it is
    held to, gets no gradient. Predictions that run into another episode do not count.
    Source: Hafner et al. 2019 (PlaNet) §4, eq. 7.
    """
    state, reached = trace.state, torch.ones_like(is_first)
    done = action.masked_fill(is_first.unsqueeze(-1), 0.0)
    total, count = action.new_zeros(()), action.new_zeros(())
    for steps in range(1, min(distance, action.shape[1] - 1) + 1):
        state = state.map(lambda value: value[:, :-1])  # the last row's state would lead beyond the sequence
        reached = reached[:, :-1] & ~is_first[:, steps:]
        conditioned = conditioner.condition(state, done[:, steps:])
        ahead = predict(dynamics, state, conditioned, None if noise is None else noise[steps - 1, :, steps:])
        state = latent(ahead)
        if steps == 1:
            continue  # held to what was seen by the usual divergence
        seen = trace.post[0][:, steps:].detach(), trace.post[1][:, steps:].detach()
        divergence = free(gaussian_kl(seen, prior_of(ahead, min_std)), free_nats)
        counts = reached.float() if weight is None else reached * weight[:, steps:]
        total, count = total + (divergence * counts).sum(), count + counts.sum()
    return total / count.clamp(min=1e-8)


def prior_of(state: State, min_std: float) -> Normal:
    """The prior's mean and deviation ``[..., S]``; of dynamics that give none, those of a certain prediction."""
    mean, std = state.get("mean"), state.get("std")
    if mean is None or std is None:
        return state["stoch"], torch.full_like(state["stoch"], min_std)
    return mean, std
