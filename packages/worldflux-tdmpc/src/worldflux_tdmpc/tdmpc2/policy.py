"""Acting in an environment: by planning, or as the policy prior suggests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from worldflux import State, Trajectory, WorldModel
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


@dataclass(frozen=True)
class HeldObjective(RewardObjective):
    """Returns, less the squared distance of each action from the policy prior's, ``coef`` times the values' scale.

    What no data shows is predicted badly, and the best of many plans is the one that is predicted worst.
    Source: Lin et al. 2025, "TD-M(PC)^2", for the idea; the form is that of the policy's own loss.
    """

    coef: float = 0.0

    def score(self, model: WorldModel, trajectory: Trajectory, noise: dict[str, Tensor]) -> Tensor:
        """Predicted return less the distances ``[B]``."""
        tdmpc2: Any = model
        total = super().score(model, trajectory, noise)
        discount = self.discount(trajectory.states[0]) if callable(self.discount) else self.discount
        weight: Tensor = (self.coef * tdmpc2.value_scale.value).to(total).expand_as(total)
        for state, action in zip(trajectory.states, trajectory.actions):
            total = total - weight * (action - tdmpc2.act(state, None)).square().sum(-1)
            weight = weight * discount
        return total


def make_objective(model: TDMPC2) -> RewardObjective:
    """Discounted rewards and the critics' value of the last state; where an episode ends nothing counts any more."""

    def discounts(state: State) -> Tensor:
        return torch.as_tensor(model.discount_of(state[TASK]))

    config = model.config
    told: dict[str, Any] = {"discount": discounts if config.num_tasks > 1 else config.discounts[0], "continues": "hard"}
    if not config.plan_behaviour_coef:
        return RewardObjective(**told)
    return HeldObjective(**told, coef=config.plan_behaviour_coef)


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
