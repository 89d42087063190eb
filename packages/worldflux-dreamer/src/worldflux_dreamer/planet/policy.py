"""Acting in an environment: by planning at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from worldflux.planners import CEMPlanner, PlannerPolicy, RewardObjective

if TYPE_CHECKING:
    from .model import PlaNet


def planning_policy(model: PlaNet, *, generator: torch.Generator | None = None) -> PlannerPolicy:
    """Return the policy that searches, by the cross-entropy method, for the largest sum of predicted rewards.

    With ``explore`` filtered and imagined latents are sampled, and noise is added to the action; without it nothing is
    drawn. Source: Hafner et al. 2019 (PlaNet) algorithms 1 and 2.
    """
    config = model.config
    planner = CEMPlanner(
        horizon=config.horizon,
        iterations=config.iterations,
        num_samples=config.num_samples,
        num_elites=config.num_elites,
        exploration=config.exploration,
    )
    objective = RewardObjective(discount=1.0, terminal=False)
    return PlannerPolicy(model, planner, objective, generator=generator, deterministic=False)
