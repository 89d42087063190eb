"""What happens next: the latent that follows an action, and what arriving there pays."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldflux.core.payloads import ConditionPayload
from worldflux.core.state import State

from . import twohot
from .config import TDMPC2Config
from .networks import mlp, simnorm


class ActionConditioner:
    """The action as it is."""

    def condition(self, state: State, action: Tensor, conditions: ConditionPayload | None = None) -> dict[str, Tensor]:
        """``action [B, A]``."""
        return {"action": action}


class Dynamics(nn.Module):
    """Two MLPs that read latent, task and action together: one predicts the next latent, one the reward on arriving."""

    def __init__(self, config: TDMPC2Config) -> None:
        super().__init__()
        inputs = config.latent_dim + config.embedding_dim + config.actions.dim
        units = [config.mlp_dim] * 2
        self.latent = mlp(inputs, units, config.latent_dim, normed=True)
        self.reward = mlp(inputs, units, config.num_bins)
        self.group, self.action_dim = config.simnorm_dim, config.actions.dim

    def transition(self, state: State, conditioned: dict[str, Tensor], deterministic: bool = False) -> State:
        """``latent [B, D]`` and ``reward_logits [B, bins]`` after ``action [B, A]`` (absent: zeros) in ``task [B, T]``.

        There is nothing random in it.
        """
        latent, action = state["latent"], conditioned.get("action")
        if action is None:
            action = latent.new_zeros(*latent.shape[:-1], self.action_dim)
        task = [conditioned["task"]] if "task" in conditioned else []
        x = torch.cat([latent, *task, action], -1)
        return State({"latent": simnorm(self.latent(x), self.group), "reward_logits": self.reward(x)})


class Decoder(nn.Module):
    """What a state shows: the reward it carries and, of episodic tasks, whether the episode goes on."""

    def __init__(self, config: TDMPC2Config) -> None:
        super().__init__()
        self.limit = config.vmax
        self.termination = mlp(config.latent_dim, [config.mlp_dim] * 2, 1) if config.episodic else None

    def decode(self, state: State, conditions: ConditionPayload | None = None) -> dict[str, Tensor]:
        """``reward [B]`` and, of episodic models, ``continue [B]``, a probability."""
        logits = state.get("reward_logits")
        latent = state["latent"]
        paid = latent.new_zeros(latent.shape[:-1]) if logits is None else twohot.decode(logits, limit=self.limit)
        if self.termination is None:
            return {"reward": paid}
        return {"reward": paid, "continue": torch.sigmoid(-self.termination(latent).squeeze(-1).float())}
