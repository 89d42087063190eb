"""Planning through the contract: planners, objectives, and a policy made of both.

planner = CEMPlanner(horizon=12)
policy = PlannerPolicy(model, planner)                          # predicted rewards
payload = planner.plan(model, state, GoalObjective(goal))       # one plan [H, E, A]
"""

from __future__ import annotations

from typing import Any

from worldflux.core.errors import ConfigurationError, did_you_mean

from .cem import CEMPlanner
from .gradient import GradientPlanner
from .icem import ICEMPlanner
from .mppi import MPPIPlanner
from .noise import Noise
from .objectives import FunctionObjective, GoalObjective, Objective, RewardObjective
from .offers import OffersActionMask, OffersProposals, OffersValue
from .planner import PLANNER_CARRY_KEY, PLANNER_SCORE_KEY, Plan, Planner, first_action
from .policy import PlannerPolicy
from .problem import Problem
from .shooting import RandomShootingPlanner
from .space import ActionSpace

PLANNERS: dict[str, type[Planner]] = {
    "random": RandomShootingPlanner,
    "cem": CEMPlanner,
    "icem": ICEMPlanner,
    "mppi": MPPIPlanner,
    "gradient": GradientPlanner,
}


def make_planner(name: str, **options: Any) -> Planner:
    """Return the planner called ``random``, ``cem``, ``icem``, ``mppi`` or ``gradient``.

    Raises ConfigurationError for another name or an option it does not have, naming the nearest one.
    """
    if not isinstance(name, str) or name not in PLANNERS:
        raise ConfigurationError(
            f"unknown planner {name!r}, expected one of {list(PLANNERS)}.{did_you_mean(name, PLANNERS)}"
        )
    return PLANNERS[name](**options)


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
    "MPPIPlanner",
    "Noise",
    "Objective",
    "OffersActionMask",
    "OffersProposals",
    "OffersValue",
    "Plan",
    "Planner",
    "PlannerPolicy",
    "Problem",
    "RandomShootingPlanner",
    "RewardObjective",
    "first_action",
    "make_planner",
]
