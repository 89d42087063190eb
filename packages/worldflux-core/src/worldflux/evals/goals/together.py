"""Several evaluations towards goals put together: only those of one card are one number."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError

from .card import differences
from .rate import wilson


def goals_together(evaluations: Sequence[Mapping[str, Any]], *, differing: Collection[str] = ()) -> dict[str, Any]:
    """Return the success rate over all episodes of evaluations (``GoalEvaluation.to_dict()``), beside chance.

    ``differing`` names fields of the card that are known to differ; they are in ``cards_differ_in`` then.

    Raises:
        ConfigurationError: no evaluation, or cards that differ in another field than the seed and the episodes.
    """
    if not evaluations:
        raise ConfigurationError("no evaluations to put together: give at least one")
    found = differences([one["card"] for one in evaluations])
    unsaid = [name for name in found if not any(name == one or name.startswith(f"{one}.") for one in differing)]
    if unsaid:
        values = {name: [_at(one["card"], name) for one in evaluations] for name in unsaid[:3]}
        raise ConfigurationError(
            f"success rates of different cards do not compare, these differ in {unsaid}: {values}. Measure them alike, "
            f"or say that they differ: differing={unsaid!r}"
        )
    together: dict[str, Any] = {"runs": len(evaluations), "success": _rate([one["success"] for one in evaluations])}
    together["floor"] = _rate([one["floor"] for one in evaluations])
    together["success_by_run"] = [one["success"]["value"] for one in evaluations]
    return {**together, **({"cards_differ_in": found} if found else {})}


def _rate(rates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    solved, episodes = (int(np.sum([one[name] for one in rates])) for name in ("solved", "episodes"))
    return {**wilson(solved, episodes).to_dict(), "solved": solved, "episodes": episodes}


def _at(card: Mapping[str, Any], name: str) -> Any:
    at: Any = card
    for part in name.split("."):
        at = at.get(part) if isinstance(at, Mapping) else None
    return at
