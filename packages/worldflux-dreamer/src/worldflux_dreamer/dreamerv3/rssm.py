"""The recurrent state-space model: what happens next (dynamics), what really happened (posterior), and both in time.

Letters: B sequences, T rows, D deter, H hidden, S latents of C classes, E tokens, A action, g blocks, N starts of
imagination, H steps of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from worldflux import State
from worldflux.blocks import action_in

from ..recurrent import follow, latent, predict
from .config import DreamerV3Config
from .distributions import sample_latent
from .networks import MLP, BlockLinear, Linear, NormedBlockLinear, NormedLinear


class Dynamics(nn.Module):
    """Block-diagonal GRU and the prior over the next latents.

    Source: Hafner et al. 2023, eq. 3; danijar/dreamerv3 ``rssm.py``.
    """

    def __init__(self, config: DreamerV3Config) -> None:
        super().__init__()
        self.blocks, self.unimix = config.blocks, config.unimix
        self.latent_shape = (config.stoch, config.classes)
        self.action_dim = config.actions.dim
        deter, hidden, blocks = config.deter_dim, config.hidden_dim, config.blocks
        self.from_deter = NormedLinear(deter, hidden)
        self.from_stoch = NormedLinear(config.stoch_dim, hidden)
        self.from_action = NormedLinear(self.action_dim, hidden)
        widths = [deter + 3 * hidden * blocks] + [deter] * (config.dynamics_layers - 1)
        self.hidden = nn.ModuleList(NormedBlockLinear(width, deter, blocks) for width in widths)
        self.gru = BlockLinear(deter, 3 * deter, blocks)
        self.prior_mlp = MLP(deter, hidden, config.prior_layers)
        self.prior_logits = Linear(hidden, config.stoch_dim)

    def transition(self, state: State, conditioned: dict[str, Tensor], deterministic: bool = False) -> State:
        """Next ``deter [..., D]`` and ``stoch [..., S, C]``, sampled by ``conditioned["noise"] [..., S]`` in [0, 1).

        ``logit`` holds the prior's raw logits ``[..., S, C]``. Without ``conditioned["action"]`` no action is done.
        """
        action = action_in(conditioned, like=state["deter"], size=self.action_dim)
        deter = self.core(state["deter"], state["stoch"], action)
        logit = self.prior(deter)
        noise = None if deterministic else conditioned["noise"]
        return State({"deter": deter, "stoch": sample_latent(logit, self.unimix, noise), "logit": logit})

    def core(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
        """The recurrent step ``[..., D]``; actions beyond [-1, 1] are scaled back to it."""
        action = action / action.detach().abs().clamp(min=1.0)
        shared = torch.cat([self.from_deter(deter), self.from_stoch(stoch.flatten(-2)), self.from_action(action)], -1)
        lead, blocks = deter.shape[:-1], self.blocks
        shared = shared.unsqueeze(-2).expand(*lead, blocks, -1)
        x = torch.cat([deter.unflatten(-1, (blocks, -1)), shared], -1).flatten(-2)  # (..., g * (D/g + 3H))
        for layer in self.hidden:
            x = layer(x)
        gates = self.gru(x).unflatten(-1, (blocks, 3, -1))
        reset, candidate, update = (gate.flatten(-2) for gate in gates.unbind(-2))
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        update = torch.sigmoid(update - 1)
        return update * candidate + (1 - update) * deter

    def prior(self, deter: Tensor) -> Tensor:
        """Raw logits ``[..., S, C]`` of the latents to expect."""
        return self.prior_logits(self.prior_mlp(deter)).unflatten(-1, self.latent_shape)


class Posterior(nn.Module):
    """The latents given what was seen: raw logits ``[..., S, C]`` of ``deter [..., D]`` and tokens ``[..., E]``."""

    def __init__(self, config: DreamerV3Config, token_dim: int) -> None:
        super().__init__()
        self.token_dim, self.unimix = token_dim, config.unimix
        self.latent_shape = (config.stoch, config.classes)
        self.mlp = MLP(config.deter_dim + token_dim, config.hidden_dim, config.posterior_layers)
        self.logits = Linear(config.hidden_dim, config.stoch_dim)

    def forward(self, deter: Tensor, tokens: Tensor) -> Tensor:
        return self.logits(self.mlp(torch.cat([deter, tokens], -1))).unflatten(-1, self.latent_shape)

    def draw(self, logits: Tensor, noise: Tensor | None) -> Tensor:
        """Latents ``[..., S, C]`` by noise ``[..., S]`` in [0, 1); the mode where it is None."""
        return sample_latent(logits, self.unimix, noise)


def features(state: State) -> Tensor:
    """What every head reads: ``[..., D + S * C]``."""
    return torch.cat([state["deter"], state["stoch"].flatten(-2)], -1)


@dataclass
class Noise:
    """All randomness of one loss; None takes the mode instead.

    ``posterior [B, T, S]`` and ``prior [H, N, S]`` are uniform, ``action [H, N, K]`` is what ``Actor.noise`` gives.
    """

    posterior: Tensor | None = None
    action: Tensor | None = None
    prior: Tensor | None = None


@dataclass
class Trace:
    """Observed states ``[B, T, ...]`` with the raw logits of posterior and prior ``[B, T, S, C]``."""

    state: State
    post: Tensor
    prior: Tensor


@dataclass
class Imagined:
    """Time-major features ``[L, n, F]``, actions ``[H, n, A]`` and predictions ``[L, n]`` from n starts, L = H + 1.

    No gradients. ``first`` holds what the first layers of actor and critic ``[L, n, U]`` make of the features, if that
    is known.
    """

    feat: Tensor
    action: Tensor
    reward: Tensor
    cont: Tensor
    value: Tensor
    slow: Tensor
    first: tuple[Tensor, Tensor] | None = None

    def acted_from(self, head: int) -> tuple[Tensor, Tensor | None]:
        """Features ``[H * n, F]`` of all states but the last, and what the first layer of actor (0) or critic (1) makes
        of them."""
        known = None if self.first is None else self.first[head][:-1].flatten(0, 1)
        return self.feat[:-1].flatten(0, 1), known


def observe(
    dynamics: Any,
    conditioner: Any,
    posterior: Posterior,
    *,
    carry: State,
    action: Tensor,
    is_first: Tensor,
    tokens: Tensor,
    noise: Tensor | None,
) -> Trace:
    """Follow rows ``[B, T, ...]`` from the state ``carry``, correcting each predicted state by what was seen.

    ``action`` led to each row, but where ``is_first``: there state and action are zeros. The plain implementation.
    """
    state, trace = carry, []
    for t in range(tokens.shape[1]):
        ahead = follow(dynamics, conditioner, state, action[:, t], is_first[:, t])
        post = posterior(ahead["deter"], tokens[:, t])
        state = State({"deter": ahead["deter"], "stoch": posterior.draw(post, None if noise is None else noise[:, t])})
        trace.append((state["deter"], state["stoch"], post, prior_logits(ahead, posterior.unimix)))
    deter, stoch, post, prior = (torch.stack(series, 1) for series in zip(*trace))
    return Trace(State({"deter": deter, "stoch": stoch}), post, prior)


def prior_logits(state: State, unimix: float) -> Tensor:
    """The prior's logits ``[..., S, C]``; of dynamics that give none, those of a certain prediction."""
    logit = state.get("logit")
    if logit is not None:
        return logit
    return torch.log(state["stoch"] * (1 - unimix) + max(unimix, 1e-6) / state["stoch"].shape[-1])


def imagine(
    dynamics: Any, conditioner: Any, actor: Any, *, start: State, steps: int, noise: Noise
) -> tuple[State, Tensor]:
    """Let the actor act from states ``[N, ...]``: the states ``[H + 1, N, ...]``, and the actions ``[H, N, A]``.

    The plain implementation.
    """
    states, actions = [start], []
    for h in range(steps):
        state = states[-1]
        actions.append(actor(features(state)).sample(None if noise.action is None else noise.action[h]))
        conditioned = conditioner.condition(state, actions[-1])
        states.append(latent(predict(dynamics, state, conditioned, None if noise.prior is None else noise.prior[h])))
    return State({name: torch.stack([s[name] for s in states]) for name in start.tensors}), torch.stack(actions)
