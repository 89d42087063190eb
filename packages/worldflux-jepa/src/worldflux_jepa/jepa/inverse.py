"""Which actions lead from one latent to another: what a planner may ask in place of a search."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldflux import CapabilityError, ConfigurationError
from worldflux.blocks import dense

from .config import JEPAConfig
from .losses import mean_where


class AmortisedInverse(nn.Module):
    """Reads the actions between two latents that lie k rows apart, k up to K, from both and from k.

    It learns from latents that do not learn from it. Source: arXiv 2605.08732, inverse dynamics on frozen latents.
    Letters: B clips, T rows, N latents of a row, D latent, A action.
    """

    def __init__(self, config: JEPAConfig) -> None:
        super().__init__()
        self.steps, self.action_dim, self.units = config.amortised_steps, config.action_dim, config.amortised_units
        inputs = 2 * config.latent_dim + 1
        self.net = dense((inputs, self.units, self.units, self.steps * self.action_dim), nn.ReLU)

    def forward(self, before: Tensor, after: Tensor, *, steps: int) -> Tensor:
        """Latents ``[..., D]`` ``steps`` rows apart to the actions between them, ``[..., steps, A]``."""
        share = before.new_full((*before.shape[:-1], 1), steps / self.steps)
        actions = self.net(torch.cat([before, after, share], -1))
        return actions.unflatten(-1, (self.steps, self.action_dim))[..., :steps, :]

    def loss(self, latents: Tensor, actions: Tensor, valid: list[Tensor]) -> Tensor:
        """The squared error of actions ``[B, T, A]`` read from latents ``[B, T, N, D]``, a mean over all pairs of rows.

        ``valid`` is for k = 1 to K ``[B, T - k]``, 1 where row t + k is of the episode of row t.
        """
        seen, errors = latents.detach().mean(2), list[Tensor]()
        for steps, where in enumerate(valid, start=1):
            read = self(seen[:, :-steps], seen[:, steps:], steps=steps)
            done = actions[:, :-1].unfold(1, steps, 1).transpose(-1, -2)  # [B, T - k, k, A]
            errors.append(mean_where((read - done).square(), where))
        return torch.stack(errors).mean()


def asked(head: AmortisedInverse | None, horizon: int) -> AmortisedInverse:
    """Return the head that gives so many actions. Raises CapabilityError without one, ConfigurationError for more."""
    if head is None:
        raise CapabilityError(
            "this JEPA has not learned which actions lead to a goal: train it with amortised=True, or plan with "
            "CEMPlanner"
        )
    if horizon > head.steps:
        raise ConfigurationError(
            f"horizon is {horizon}, but this JEPA gives at most {head.steps} actions towards a goal: set a shorter "
            "horizon, or train it with more amortised_steps"
        )
    return head
