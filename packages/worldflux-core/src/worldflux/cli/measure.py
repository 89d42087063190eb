"""Policies beside one another in a run's environment, as ``eval`` and ``plan`` print them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldflux.words.counts import counted

from .compute import computing
from .output import apart, emit, table

if TYPE_CHECKING:
    from worldflux.evals import EvalResult
    from worldflux.experiment import Run
    from worldflux.planners import Objective, Planner


def measure(
    run: Path,
    *,
    env: Mapping[str, Any] | None = None,
    threads: str | None = None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Measure a run as :func:`earned` does, and print it; ``env`` is what ``Run.load`` takes of the environment."""
    from worldflux.experiment import Run

    with apart(), computing(threads):
        loaded = Run.load(run, **(env or {}))
        results = earned(loaded, **asked)
    data, text = returns_told(loaded, results, planner=asked.get("planner"))
    emit({**about(loaded, run), **data}, text, as_json=as_json)


def earned(
    loaded: Run,
    *,
    episodes: int,
    seed: int | None,
    explore: bool | None = None,
    policy: str | None = None,
    planner: Planner | None = None,
    objective: Objective | None = None,
    execute: int = 1,
) -> dict[str, EvalResult]:
    """Run complete episodes with the run's own policy, the random one and, where one is given, a planner.

    All meet the same starts. ``policy`` acts in place of the run's own. Raises ConfigurationError where model, planner
    and objective do not fit.
    """
    results = {}
    if planner is not None:
        results["planned"] = loaded.plan(
            planner, objective=objective, episodes=episodes, seed=seed, explore=bool(explore), execute=execute
        )
    results["trained"] = loaded.evaluate(episodes=episodes, seed=seed, explore=explore, policy=policy)
    results["random"] = loaded.random_baseline(episodes=episodes, seed=seed)
    return results


def about(loaded: Run, run: Path) -> dict[str, Any]:
    """Return which run it is, for JSON."""
    settings = loaded.settings
    return {"run": run, "model": settings.model, "env": settings.acts_in, "weights": loaded.weights}


def returns_told(
    loaded: Run, results: Mapping[str, EvalResult], *, planner: Planner | None = None
) -> tuple[dict[str, Any], str]:
    """Return what policies earned beside one another, for JSON and in text."""
    from worldflux.evals import returns_in_words
    from worldflux.planners import described

    data: dict[str, Any] = {}
    random = results["random"]
    episodes = random.episodes + random.unfinished
    lines = [
        f"{loaded.settings.model} in {loaded.settings.acts_in}, {counted(episodes, 'episode')}, seed {random.seed}"
    ]
    if planner is not None:
        data["planner"] = described(planner)
        lines.append(f"planned by {data['planner']['name']}, {counted(planner.horizon, 'step')} ahead")
    rows = [
        (name, f"{r.mean:.2f} ± {r.std:.2f}", f"{r.min:.2f}", f"{r.max:.2f}", f"{r.mean_length:.1f}")
        for name, r in results.items()
    ]
    cut = [
        f"{name}: {counted(r.unfinished, 'episode')} did not end; {r.cut_mean:.2f} was earned until the cut"
        for name, r in results.items()
        if r.unfinished
    ]
    lines.append(table(("POLICY", "RETURN (MEAN ± STD)", "MIN", "MAX", "LENGTH"), rows))
    lines += cut
    data["in_words"] = returns_in_words(results)
    lines += data["in_words"]
    data |= {name: result.to_dict() for name, result in results.items()}
    return data, "\n".join(lines)
