"""How the predictor comes to know the action: standardised, by numbers that are kept with the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldflux import ConditionPayload, State
from worldflux.blocks import Standardiser

from .config import JEPAConfig


class Actions(nn.Module):
    """The slot ``action_conditioner``: actions less a mean, over a deviation; as they are where the config says so.

    Both are buffers: given (``action_mean``, ``action_std``), or of what training has shown (``normalise_actions``).
    """

    def __init__(self, config: JEPAConfig) -> None:
        super().__init__()
        self.learns = config.normalise_actions
        given = bool(config.action_mean or config.action_std)
        self.scale = Standardiser(config.action_dim) if given or self.learns else None
        if self.scale is not None and config.action_mean:
            self.scale.mean.copy_(torch.tensor(config.action_mean))
        if self.scale is not None and config.action_std:
            self.scale.variance.copy_(torch.tensor(config.action_std).square())

    def condition(self, state: State, action: Tensor, conditions: ConditionPayload | None = None) -> dict[str, Tensor]:
        """Actions ``[..., A]`` to ``{"action": [..., A]}``."""
        return {"action": action if self.scale is None else self.scale(action)}

    def observe(self, actions: Tensor, weight: Tensor) -> None:
        """In training, take note of actions ``[N, A]``, each by its weight ``[N]``."""
        if self.scale is not None and self.learns and self.training:
            self.scale.observe(actions, weight)
