"""An evaluation towards goals in words: what the rate rests on, and where the energy does not know the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worldflux.words.counts import counted

KNOWS = 0.5  # rank correlation of energy and distance below which a sentence says so
RANK = 0.05  # share of random plans above which one says that the oracle's plan is not seen for what it is
FEW = 20  # episodes


def goals_in_words(document: Mapping[str, Any]) -> list[str]:
    """Return sentences about what ``GoalEvaluation.to_dict`` holds."""
    success, floor, start = document["success"], document["floor"], document["solved_at_start"]
    if not success["episodes"]:
        return ["Every episode began at its goal: nothing was measured. Take other starts, or goals further away."]
    said = []
    numbers = f"({success['solved']} of {success['episodes']}, {floor['policy']} random actions {floor['solved']})"
    if success["value"] <= floor["value"]:
        said.append(f"Planning reaches goals no more often than chance does {numbers}.")
    elif success["low"] <= floor["high"]:
        said.append(f"Planning reaches goals not clearly more often than chance does {numbers}: the intervals overlap.")
    if success["episodes"] < FEW:
        said.append(f"The rate rests on {counted(success['episodes'], 'episode')}.")
    if start["left_out"]:
        said.append(f"{counted(start['left_out'], 'episode')} began at their goal and are left out.")
    known = document.get("energy_distance", {}).get("rank_correlation", {}).get("value")
    if known is not None and known < KNOWS:
        said.append(
            f"The energy does not rank states by their distance to the goal (rank correlation {known:.2f}): "
            "representations that predict well may still lie in another order. The regulariser's weight decides that."
        )
    rank = document.get("oracle_rank", {})
    if rank and rank["value"] > RANK:
        said.append(
            f"The model holds {rank['value']:.0%} of random plans to be better than that of who knows the way "
            f"({rank['horizon']} actions)."
        )
    return said
