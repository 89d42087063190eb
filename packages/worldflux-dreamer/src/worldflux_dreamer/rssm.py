"""The recurrent state-space model: what happens next (dynamics) and what really happened (posterior).

Letters: D deter, H hidden, S latents of C classes, E tokens, A action, g blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldflux.core.config import WorldModelConfig
from worldflux.core.payloads import ConditionPayload
from worldflux.core.state import State

from .config import DreamerV3Config
from .distributions import sample_latent
from .networks import MLP, BlockLinear, Linear, NormedLinear, rms_silu


class ActionConditioner(nn.Module):
    """Passes the action on; parts that are missing (any entry -inf) count as zeros."""

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.sizes = [part.dim for part in config.actions.leaves()]

    def condition(self, state: State, action: Tensor, conditions: ConditionPayload | None = None) -> dict[str, Tensor]:
        """Actions ``[..., A]`` to ``{"action": [..., A]}``."""
        parts = action.split(self.sizes, -1)
        kept = [part.masked_fill(part.isneginf().any(-1, keepdim=True), 0.0) for part in parts]
        return {"action": torch.cat(kept, -1)}


class NormedBlockLinear(BlockLinear):
    """``silu(rms(block_linear(x)))``, the norm over all features together."""

    def __init__(self, inputs: int, outputs: int, blocks: int) -> None:
        super().__init__(inputs, outputs, blocks)
        self.scale = nn.Parameter(torch.ones(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return rms_silu(super().forward(x), self.scale)


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
        action = conditioned.get("action")
        if action is None:
            action = state["deter"].new_zeros(*state["deter"].shape[:-1], self.action_dim)
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
        self.latent_shape = (config.stoch, config.classes)
        self.mlp = MLP(config.deter_dim + token_dim, config.hidden_dim, config.posterior_layers)
        self.logits = Linear(config.hidden_dim, config.stoch_dim)

    def forward(self, deter: Tensor, tokens: Tensor) -> Tensor:
        return self.logits(self.mlp(torch.cat([deter, tokens], -1))).unflatten(-1, self.latent_shape)
