"""docs/measures.md documents every field of an evaluation towards goals, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from worldflux.envs import make_env
from worldflux.evals import evaluate_goals
from worldflux.planners import CEMPlanner

PAGE = (Path(__file__).resolve().parents[5] / "docs" / "measures.md").read_text(encoding="utf-8")
PLANNER = CEMPlanner(horizon=4, num_samples=40, num_elites=5, iterations=3)
WHOLE = ("options", "planner", "objective", "uniform", "persistent")  # mappings that are told of as one
NUMBER = {"value", "low", "high"}


def documented() -> set[str]:
    """The names in code of the first column of the table."""
    part = PAGE.split("\n## Towards goals\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def fields(tree, path=()):
    for name, value in tree.items():
        number = isinstance(value, dict) and set(value) <= NUMBER
        if isinstance(value, dict) and name not in WHOLE and not number:
            yield from fields(value, (*path, name))
        else:
            yield ".".join((*path, name))


def test_every_field_is_documented_and_every_documented_field_is_there(oracle):
    found = set()
    for how in ({"goal": "offset", "goal_offset": 8}, {}):
        env = make_env("study:point-goal", num_envs=6, env_options={"obs": "state", **how})
        found |= set(fields(evaluate_goals(oracle.Oracle(), env, planner=PLANNER, energy="l2").to_dict()))
    assert found == documented()


def test_a_given_start_and_goal_are_not_drawn(oracle):
    env = make_env("study:point-goal", num_envs=2, env_options={"obs": "state"})
    result = evaluate_goals(
        oracle.Oracle(), env, planner=PLANNER, starts=np.full((2, 2), 0.2), goals=np.full((2, 2), 0.7), budget=3
    )
    assert (result.card["starts"], result.card["goals"]) == ("given", "given")
