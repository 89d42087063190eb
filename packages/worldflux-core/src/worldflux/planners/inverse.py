"""Amortised planning: the model itself is asked for the actions that lead to a goal; nothing is searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from worldflux.core.errors import ShapeMismatchError
from worldflux.core.fields import Count
from worldflux.core.policy import Carry
from worldflux.core.state import State

from .noise import Noise
from .objectives import GoalObjective
from .offers import OffersActions
from .planner import Plan, Planner
from .problem import Problem, require


@dataclass(frozen=True, kw_only=True)
class InverseDynamicsPlanner(Planner):
    """The plan of a model that has learned which actions lead from one state to another (``OffersActions``).

    It needs a ``GoalObjective``, of which only the goal is read. Nothing is imagined, so a plan costs one call of the
    model and its score is not known (NaN). Source: arXiv 2605.08732, inverse dynamics on frozen latents.
    """

    horizon: Count = 5

    def check(self, problem: Problem) -> None:
        """Raise ConfigurationError for a model that makes no such offer, or an objective without a goal."""
        name = type(problem.model).__name__
        require(
            isinstance(problem.model, OffersActions),
            f"InverseDynamicsPlanner asks the model which actions lead to a goal, and {name} does not offer that "
            "(worldflux.planners.OffersActions): plan with CEMPlanner or another planner, or train a model that learns "
            "it, such as jepa with amortised=True",
        )
        require(
            isinstance(problem.objective, GoalObjective),
            f"InverseDynamicsPlanner plans towards a goal, got a {type(problem.objective).__name__}: give "
            "GoalObjective(model.encode(goal_observation))",
        )

    def draw(self, problem: Problem, generator: torch.Generator) -> Noise:
        """Exploration alone."""
        return self._draw(problem, generator, [], [])

    def draw_repeatably(self, problem: Problem, steps: Tensor) -> Noise:
        """Nothing: where one does not explore, no noise is read."""
        return Noise([], torch.empty(0))

    @torch.no_grad()
    def search(self, problem: Problem, noise: Noise, carry: Carry, *, explore: bool = False) -> Plan:
        """Ask the model."""
        model, objective = cast(OffersActions, problem.model), cast(GoalObjective, problem.objective)
        objective.check_rows(problem.num_envs)
        rows, goal = problem.num_envs, objective.goal
        goal = State({n: v.to(problem.device).expand(rows, *v.shape[1:]) for n, v in goal.tensors.items()}, goal.meta)
        actions = model.actions_to_goal(problem.state, goal, self.horizon)
        expected = (self.horizon, rows, problem.space.dim)
        if actions.shape != expected:
            raise ShapeMismatchError("actions to the goal", expected=expected, got=tuple(actions.shape))
        plans = problem.space.mode(actions.to(problem.dtype).transpose(0, 1))
        if explore:
            plans = self._explore(problem.space, plans, noise)
        return Plan(plans.transpose(0, 1).contiguous(), plans.new_full((rows,), torch.nan))
