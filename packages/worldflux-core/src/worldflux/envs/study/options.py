"""What can be asked of an environment for study, and its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from worldflux.core.errors import ConfigurationError, did_you_mean
from worldflux.core.fields import Count, Field, Fields, Positive, option_names

from .factors import Factors
from .point_goal import PointGoal
from .push_block import PushBlock
from .task import Task
from .two_room import TwoRoom

PREFIX = "study:"
TASKS: dict[str, type[Task]] = {task.name: task for task in (PointGoal, TwoRoom, PushBlock)}


@dataclass(frozen=True, kw_only=True)
class StudyOptions(Fields):
    """Options of every environment for study; ``size``, ``limit`` and ``radius`` have a default of each one's own.

    ``obs`` is what is shown: the picture ``image [3, size, size]`` uint8, the true ``state`` float32, or both.
    ``show_goal`` also shows the goal, in the picture and as ``goal`` beside the state. ``goal`` is how goals are drawn:
    uniformly ("place"), uniformly in the other room ("other_room"), or where the oracle is ``goal_offset`` steps along
    its way to such a place ("offset"). ``reward`` is minus the distance ("dense"), or 1 at the goal ("sparse"). A row
    is at its goal when it is nearer than ``radius``. Episodes are cut after ``limit`` steps.
    """

    obs: Literal["image", "state", "both"] = "image"
    size: Annotated[int, Field(ge=16, le=512)]
    limit: Count
    radius: Positive
    goal: Literal["place", "offset", "other_room"] = "place"
    goal_offset: Count = 25
    reward: Literal["dense", "sparse"] = "dense"
    show_goal: bool = False


def is_study(name: Any) -> bool:
    """Tell whether this is the name of an environment for study, or meant as one."""
    return isinstance(name, str) and name.lower().startswith(PREFIX)


def study_hint(name: str) -> str:
    """Return a sentence for a name that is one of these environments' without its prefix, else nothing."""
    bare = _spelled(name)
    return f" It is an environment for study: write {PREFIX + bare!r}." if bare in TASKS else ""


def chosen(name: str, given: Mapping[str, Any]) -> tuple[Task, StudyOptions, Factors]:
    """Return what a name and options ask for; an option is one of StudyOptions, ``vary``, or a factor's value.

    Raises:
        ConfigurationError: there is no such environment or option (the message names the nearest), or a value is wrong.
    """
    wanted = _spelled(name[len(PREFIX) :])
    if wanted not in TASKS:
        known = [PREFIX + one for one in TASKS]
        near = did_you_mean(PREFIX + wanted, known)
        raise ConfigurationError(f"unknown environment {name!r}, expected one of {known}.{near}")
    task, env = TASKS[wanted](), PREFIX + wanted
    factors = {factor.name for factor in task.factors}
    known = sorted({*option_names(StudyOptions), "vary", *factors})
    for option in given:
        if option not in known:
            near = did_you_mean(option, known)
            raise ConfigurationError(f"{env} has no option {option!r}, it has {known}.{near}")
    own = {"size": task.size, "limit": task.limit, "radius": task.radius}
    options = StudyOptions(**own | {k: v for k, v in given.items() if k not in factors and k != "vary"})
    if options.goal not in task.goal_kinds:
        raise ConfigurationError(f"{env}: goal is {options.goal!r}, expected one of {list(task.goal_kinds)}")
    looks = {k: v for k, v in given.items() if k in factors}
    return task, options, Factors(env, task.factors, looks, given.get("vary", ()))


def _spelled(name: str) -> str:
    return name.lower().replace("_", "-")
