"""Acting in an environment: by planning, or as the policy prior suggests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from worldflux import State
from worldflux.blocks import MemorylessPolicy
from worldflux.planners import MPPIPlanner, PlannerPolicy, RewardObjective

from .config import TASK, TDMPC2Config

if TYPE_CHECKING:
    from .model import TDMPC2


def make_planner(config: TDMPC2Config) -> MPPIPlanner:
    """MPPI with the settings of a model."""
    return MPPIPlanner(
        horizon=config.horizon,
        num_samples=config.num_samples,
        num_elites=config.num_elites,
        num_proposals=config.num_pi_trajs,
        iterations=config.plan_iterations,
        temperature=config.temperature,
        min_std=config.min_std,
        max_std=config.max_std,
        compiled=config.compiled,
        mixed_precision=config.plan_mixed_precision,
    )


def make_objective(model: TDMPC2) -> RewardObjective:
    """Discounted rewards and the critics' value of the last state; where an episode ends nothing counts any more."""

    def discounts(state: State) -> Tensor:
        return torch.as_tensor(model.discount_of(state[TASK]))

    several = model.config.num_tasks > 1
    return RewardObjective(discount=discounts if several else model.config.discounts[0], continues="hard")


def restricted(model: TDMPC2, obs: Mapping[str, Tensor], action: Tensor) -> Tensor:
    """Actions ``[N, A]`` without the entries that the tasks of observations ``[N, ...]`` do not have."""
    if TASK not in obs:
        return action
    mask = model.action_masks[obs[TASK].to(model.action_masks.device)].to(action.device)
    if model.config.prior == "gaussian":
        return action * mask
    return one_hot(action.argmax(-1) % mask.sum(-1).long(), action.shape[-1]).to(action)


class PlanningPolicy(PlannerPolicy):
    """Plans at every step. Candidates are drawn, and an elite by its weight; ``explore`` adds noise to it.

    Without it the numbers follow from the step alone, so that nothing is left to chance.
    """

    model: TDMPC2

    def __init__(self, model: TDMPC2, *, generator: torch.Generator | None = None) -> None:
        super().__init__(model, make_planner(model.config), make_objective(model), generator=generator)

    def restrict(self, obs: Mapping[str, Tensor], action: Tensor) -> Tensor:
        """Random actions ``[N, A]`` for observations ``[N, ...]`` as their tasks allow them."""
        return restricted(self.model, obs, action)


class PriorPolicy(MemorylessPolicy):
    """The policy prior alone; ``explore`` samples, without it nothing is drawn. It remembers nothing."""

    model: TDMPC2

    def restrict(self, obs: Mapping[str, Tensor], action: Tensor) -> Tensor:
        """Random actions ``[N, A]`` for observations ``[N, ...]`` as their tasks allow them."""
        return restricted(self.model, obs, action)
