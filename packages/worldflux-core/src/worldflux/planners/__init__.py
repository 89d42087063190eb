"""Planning through the contract: planners, objectives, and a policy made of both.

planner = CEMPlanner(horizon=12)
policy = PlannerPolicy(model, planner)                          # predicted rewards
payload = planner.plan(model, state, GoalObjective(goal))       # one plan [H, E, A]
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from worldflux.core.errors import ConfigurationError, did_you_mean

from .cem import CEMPlanner
from .gradient import GradientPlanner
from .icem import ICEMPlanner
from .inverse import InverseDynamicsPlanner
from .mppi import MPPIPlanner
from .noise import Noise
from .objectives import FunctionObjective, GoalObjective, Objective, RewardObjective
from .offers import OffersActionMask, OffersActions, OffersProposals, OffersValue
from .planner import PLANNER_CARRY_KEY, PLANNER_SCORE_KEY, Plan, Planner, first_action
from .policy import PlannerPolicy
from .problem import Problem
from .shooting import RandomShootingPlanner
from .space import ActionSpace
from .state_goal import StateGoal

PLANNERS: dict[str, type[Planner]] = {
    "random": RandomShootingPlanner,
    "cem": CEMPlanner,
    "icem": ICEMPlanner,
    "mppi": MPPIPlanner,
    "gradient": GradientPlanner,
    "inverse": InverseDynamicsPlanner,
}


def make_planner(name: str, **options: Any) -> Planner:
    """Return the planner called ``random``, ``cem``, ``icem``, ``mppi``, ``gradient`` or ``inverse``.

    Raises ConfigurationError for another name or an option it does not have, naming the nearest one.
    """
    if not isinstance(name, str) or name not in PLANNERS:
        raise ConfigurationError(
            f"unknown planner {name!r}, expected one of {list(PLANNERS)}.{did_you_mean(name, PLANNERS)}"
        )
    return PLANNERS[name](**options)


def described(planner: Planner) -> dict[str, Any]:
    """Return a planner's name and its options, ready for JSON."""
    name = next((name for name, kind in PLANNERS.items() if type(planner) is kind), type(planner).__name__)
    return {"name": name, **asdict(planner)}


__all__ = [
    "PLANNERS",
    "PLANNER_CARRY_KEY",
    "PLANNER_SCORE_KEY",
    "ActionSpace",
    "CEMPlanner",
    "FunctionObjective",
    "GoalObjective",
    "GradientPlanner",
    "ICEMPlanner",
    "InverseDynamicsPlanner",
    "MPPIPlanner",
    "Noise",
    "Objective",
    "OffersActionMask",
    "OffersActions",
    "OffersProposals",
    "OffersValue",
    "Plan",
    "Planner",
    "PlannerPolicy",
    "Problem",
    "RandomShootingPlanner",
    "RewardObjective",
    "StateGoal",
    "described",
    "first_action",
    "make_planner",
]
