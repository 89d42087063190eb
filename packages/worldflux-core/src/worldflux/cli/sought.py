"""Planning towards goals, as ``plan`` and ``eval`` print and keep it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldflux.words.counts import counted

from .judged import interval
from .output import table

if TYPE_CHECKING:
    from worldflux.evals import GoalEvaluation, GoalSought
    from worldflux.experiment import Run

CHANCE = ("uniform", "persistent")


def goals_kept(run: Run, result: GoalEvaluation, *, folder: Path | None = None) -> tuple[dict[str, Any], str]:
    """Return what was measured of the environment's goals, for JSON and as text; keep it with a run."""
    from worldflux.experiment.goals import keep_goals

    told = result.to_dict()
    data: dict[str, Any] = {"goals": told}
    place = folder or (None if run.status == "saved" else run.directory)
    if place is not None:
        data["goal_numbers"] = keep_goals(told, place)
    lines = [goals_told(told), *told["in_words"]]
    lines += [f"numbers  {data['goal_numbers']}"] if place is not None else []
    return data, "\n".join(lines)


def goals_told(told: Mapping[str, Any]) -> str:
    """Return the text of a ``GoalEvaluation``."""
    card, floor = told["card"], told["floor"]
    planner = card["planner"]
    goals = f"{card['goals']} goals" + (f", {counted(card['offset'], 'step')} away" if "offset" in card else "")
    skip = f", {counted(card['frame_skip'], 'step')} an action" if card["frame_skip"] > 1 else ""
    lines = [
        f"{card['environment']['name']}, {goals}: {counted(card['episodes'], 'episode')} of up to "
        f"{counted(card['budget'], 'step')}{skip}, "
        f"seed {card['seed']}",
        f"planned by {planner['name']}, {planner['horizon']} actions ahead, of which {card['execute']} are done",
    ]
    rows = [
        ("planned", interval(told["success"]), told["success"]["solved"], told["success"]["episodes"]),
        *((name, interval(floor[name]), floor[name]["solved"], floor[name]["episodes"]) for name in CHANCE),
    ]
    lines.append(table(("ACTIONS", "SUCCESS (95 %)", "SOLVED", "EPISODES"), rows))
    start = told["solved_at_start"]
    lines.append(f"solved at the start, and left out: {start['share']:.1%}")
    if "energy_distance" in told:
        lines.append(f"energy and distance, rank correlation {interval(told['energy_distance']['rank_correlation'])}")
    if "oracle_rank" in told:
        lines.append(f"random plans held to be better than the best {told['oracle_rank']['value']:.1%}")
    lines.append(f"a plan takes {told['replan_ms']:.1f} ms")
    return "\n".join(lines)


def goals_across(evaluations: list[dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """Return the success over several runs, for JSON and as text, which says in what their cards differ."""
    from worldflux.evals.goals.card import differences
    from worldflux.evals.goals.together import goals_together

    found = goals_together(evaluations, differing=differences([one["card"] for one in evaluations]))
    text = f"over {found['runs']} runs, planning reaches {interval(found['success'])} of the goals, chance "
    text += f"{found['floor']['value']:.4g}"
    if "cards_differ_in" in found:
        text += f"; these are not one measurement: their cards differ in {', '.join(found['cards_differ_in'])}"
    return found, text


def sought_kept(run: Run, result: GoalSought) -> tuple[dict[str, Any], str]:
    """Return how near plans towards a given goal got, for JSON and as text; keep it with a run."""
    from worldflux.experiment.goals import SOUGHT, keep_goals

    told = result.to_dict()
    data: dict[str, Any] = {"sought": told, "in_words": told["in_words"]}
    card = told["card"]
    asked = f"{counted(card['episodes'], 'episode')} of up to {counted(card['budget'], 'step')}"
    lines = [f"goal {card['goal']}: {asked}, seed {card['seed']}"]
    rows = [(who, *(f"{at[name]:.4g}" for name in ("first", "nearest", "last"))) for who, at in told["energy"].items()]
    lines.append(table(("ACTIONS", "ENERGY AT THE START", "NEAREST", "AT THE END"), rows))
    lines += [f"the state is read by a probe, R² {card['probe_r2']:.2f}"] if "probe_r2" in card else []
    lines += told["in_words"]
    if run.status != "saved":
        data["numbers"] = keep_goals(told, run.directory, name=SOUGHT)
        lines.append(f"numbers  {data['numbers']}")
    return data, "\n".join(lines)
