"""The harness card of a success rate: in what it was measured, and how. Numbers of two cards do not compare."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

from worldflux.envs import GoalEnv
from worldflux.planners import Planner, described

FREE = ("seed", "episodes")  # of a card: what repetitions differ in


def card_of(env: GoalEnv, *, planner: Planner, starts: str, goals: str | None, **asked: Any) -> dict[str, Any]:
    """Return the card. An environment says in ``about`` what it is; ``goals`` is where they come from, if told."""
    about = dict(getattr(env, "about", None) or {"name": type(env).__name__})
    about.setdefault("version", f"worldflux-core {metadata.version('worldflux-core')}")
    options = about.get("options", {})
    source = goals or str(options.get("goal", "drawn by the environment"))
    offset = {"offset": options["goal_offset"]} if source == "offset" else {}
    return {"environment": about, "starts": starts, "goals": source, **offset, "planner": described(planner), **asked}


def differences(cards: list[Mapping[str, Any]]) -> list[str]:
    """Return the fields, by their dotted names, in which cards differ, but for those repetitions may differ in."""
    flat = [dict(_flat({name: value for name, value in card.items() if name not in FREE})) for card in cards]
    names = sorted({name for one in flat for name in one})
    return [name for name in names if any(one.get(name) != flat[0].get(name) for one in flat)]


def _flat(tree: Mapping[str, Any], path: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in tree.items():
        below = isinstance(value, Mapping) and value
        found += _flat(value, f"{path}{name}.") if below else [(path + name, _plain(value))]
    return found


def _plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value
