"""What happens next: the latent that follows an action, and what arriving there pays."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux import ConditionPayload, State
from worldflux.blocks import action_in, simnorm

from . import twohot
from .config import TASK, TDMPC2Config
from .networks import joined, mlp


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
        """``latent [B, D]`` and ``reward_logits [B, bins]`` after ``action [B, A]`` (absent: zeros) in ``task [B, E]``.

        There is nothing random in it.
        """
        action = action_in(conditioned, like=state["latent"], size=self.action_dim)
        x = joined(state["latent"], conditioned.get(TASK), action)
        return State({"latent": simnorm(self.latent(x), self.group), "reward_logits": self.reward(x)})


class Decoder(nn.Module):
    """What a state shows: the reward it carries and, of episodic tasks, whether the episode goes on."""

    def __init__(self, config: TDMPC2Config) -> None:
        super().__init__()
        self.limit = config.vmax
        self.termination = mlp(config.latent_dim, [config.mlp_dim] * 2, 1) if config.episodic else None

    def decode(self, state: State, conditions: ConditionPayload | None = None) -> dict[str, Tensor]:
        """``reward [...]`` and, of episodic models, ``continue [...]``, a probability, for latents ``[..., D]``."""
        logits, latent = state.get("reward_logits"), state["latent"]
        paid = latent.new_zeros(latent.shape[:-1]) if logits is None else twohot.decode(logits, limit=self.limit)
        if self.termination is None:
            return {"reward": paid}
        return {"reward": paid, "continue": torch.sigmoid(-self._ends(latent))}

    def losses(self, state: State, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross entropies ``[...]`` of ``reward`` as two bins (``rew``) and of ``continue`` (``con``)."""
        found = {"rew": twohot.cross_entropy(state["reward_logits"], targets["reward"], limit=self.limit)}
        if self.termination is not None:
            ends, terminal = self._ends(state["latent"]), 1 - targets["continue"]
            found["con"] = F.binary_cross_entropy_with_logits(ends, terminal, reduction="none")
        return found

    def _ends(self, latent: Tensor) -> Tensor:
        """The logit ``[...]`` that the episode ended."""
        assert self.termination is not None
        return self.termination(latent).squeeze(-1).float()
