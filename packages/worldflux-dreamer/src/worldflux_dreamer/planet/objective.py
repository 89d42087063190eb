"""What PlaNet minimises: how a batch is read, the posterior recurrence, and predictions further ahead.

Letters: B sequences, T rows, S latents, D deter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worldflux.core.batch import Batch
from worldflux.core.errors import ConfigurationError, ValidationError
from worldflux.core.state import State

from ..distributions import symlog
from .losses import Normal, free, gaussian_kl, half_squared_error
from .networks import draw
from .rssm import prior_of

if TYPE_CHECKING:
    from .model import PlaNet


@dataclass
class Rows:
    """Rows ``[B, T, ...]`` with the action that led to each."""

    obs: dict[str, Tensor]  # images in [0, 1]
    action: Tensor  # [B, T, A], zeros where nothing led to the row
    begins: Tensor  # [B, T] bool: the state before the row is zeros
    reward: Tensor  # [B, T]
    weight: Tensor | None  # [B, T]; None where no row is masked


@dataclass
class Noise:
    """All randomness of one loss; None takes the mean instead.

    ``posterior [B, T, S]`` is normal, as is ``ahead [K, B, T, S]`` of predictions further ahead; ``pixels`` are
    uniform, shaped as the images.
    """

    posterior: Tensor | None = None
    ahead: Tensor | None = None
    pixels: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Trace:
    """Filtered states with posterior and prior, all ``[B, T, ...]``."""

    state: State
    post: Normal
    prior: Normal


def read_rows(batch: Batch, *, obs: dict[str, Tensor], actions: Tensor) -> Rows:
    """Rows of a batch ``[B, T, ...]``. The first starts from zeros, as does each row with ``is_first``.

    Raises ValidationError for a batch without rewards.
    """
    if batch.rewards is None:
        raise ValidationError("the batch has no rewards")
    begins = torch.zeros(actions.shape[:2], dtype=torch.bool, device=actions.device)
    if batch.is_first is not None:
        begins |= batch.is_first > 0
    begins[:, 0] = True
    before = torch.cat([torch.zeros_like(actions[:, :1]), actions[:, :-1]], 1)
    weight = None if batch.mask is None else batch.mask.float()
    return Rows(obs, before.masked_fill(begins.unsqueeze(-1), 0.0), begins, batch.rewards.float(), weight)


def observe(model: PlaNet, rows: Rows, tokens: Tensor, noise: Tensor | None) -> Trace:
    """Follow the sequence, correcting each predicted state by what was seen."""
    state, found = model.initial_state(tokens.shape[0], tokens.device), []
    for t in range(tokens.shape[1]):
        keep = (~rows.begins[:, t]).to(tokens.dtype).unsqueeze(-1)
        state = state.map(lambda value, keep=keep: value * keep)  # type: ignore[misc]
        conditioned = model.action_conditioner.condition(state, rows.action[:, t])
        ahead = model.dynamics_model.transition(state, conditioned, deterministic=True)
        post = model.posterior(ahead["deter"], tokens[:, t])
        stoch = draw(post[0], post[1], None if noise is None else noise[:, t])
        state = State({"deter": ahead["deter"], "stoch": stoch})
        found.append((ahead["deter"], stoch, *post, *prior_of(ahead, model.config.min_std)))
    deter, stoch, mean, std, prior_mean, prior_std = (torch.stack(series, 1) for series in zip(*found))
    return Trace(State({"deter": deter, "stoch": stoch}), (mean, std), (prior_mean, prior_std))


def overshoot(model: PlaNet, rows: Rows, trace: Trace, noise: Tensor | None) -> Tensor:
    """Mean divergence, in nats, of what was seen from all that was predicted 2, 3, … ``overshooting`` steps before.

    From each state the prior runs on by itself; the posterior, which it is held to, gets no gradient. Predictions that
    run into another episode do not count. Source: Hafner et al. 2019 (PlaNet) §4, eq. 7.
    """
    config, state = model.config, trace.state
    reached = torch.ones_like(rows.begins)
    total, count = rows.reward.new_zeros(()), rows.reward.new_zeros(())
    for steps in range(1, min(config.overshooting, rows.reward.shape[1] - 1) + 1):
        state = state.map(lambda value: value[:, :-1])  # the last row's state would lead beyond the sequence
        reached = reached[:, :-1] & ~rows.begins[:, steps:]
        conditioned = model.action_conditioner.condition(state, rows.action[:, steps:])
        if noise is not None:
            conditioned = {**conditioned, "noise": noise[steps - 1, :, steps:]}
        ahead = model.dynamics_model.transition(state, conditioned, deterministic=noise is None)
        state = State({name: ahead[name] for name in ("deter", "stoch")})
        if steps == 1:
            continue  # held to what was seen by the usual divergence
        seen = trace.post[0][:, steps:].detach(), trace.post[1][:, steps:].detach()
        divergence = free(gaussian_kl(seen, prior_of(ahead, config.min_std)), config.free_nats)
        counts = reached.float() if rows.weight is None else reached * rows.weight[:, steps:]
        total, count = total + (divergence * counts).sum(), count + counts.sum()
    return total / count.clamp(min=1e-8)


def reconstruction_losses(model: PlaNet, rows: Rows, state: State) -> dict[str, Tensor]:
    """Losses ``[B, T]`` by name: each observation, and ``rew``.

    Raises ConfigurationError for a decoder that predicts too little.
    """
    config = model.config
    targets = {**rows.obs, "reward": rows.reward}
    targets |= {name: symlog(rows.obs[name].float()) for name in config.vector_names}
    if hasattr(model.decoder, "means"):
        means = model.decoder.means(state)
    else:  # any decoder predicts in the data's units, row by row
        flat = state.map(lambda value: value.flatten(0, 1))
        preds = {name: value.unflatten(0, rows.reward.shape) for name, value in model.decode(flat).preds.items()}
        means = {**preds, **{name: symlog(preds[name]) for name in config.vector_names if name in preds}}
    missing = sorted(set(targets) - set(means))
    if missing:
        raise ConfigurationError(f"the decoder predicts {sorted(means)}; training needs {missing}, too")
    ranks = {name: len(spec.shape) for name, spec in config.modalities.items()}
    found = {name: half_squared_error(means[name], targets[name], rank=rank) for name, rank in ranks.items()}
    return {**found, "rew": half_squared_error(means["reward"].reshape(rows.reward.shape), targets["reward"], rank=0)}
