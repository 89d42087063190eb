"""Policies beside one another in a run's environment, as ``eval`` and ``plan`` print them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .compute import computing
from .output import apart, emit, table

if TYPE_CHECKING:
    from worldflux.planners import Objective, Planner


def measure(
    run: Path,
    *,
    episodes: int,
    seed: int | None,
    explore: bool | None = None,
    policy: str | None = None,
    env: Mapping[str, Any] | None = None,
    planner: Planner | None = None,
    objective: Objective | None = None,
    threads: str | None = None,
    as_json: bool,
) -> None:
    """Run complete episodes with the run's own policy, the random one and, where one is given, a planner; print them.

    All meet the same starts. ``env`` is what the caller said of the environment, as ``Run.load`` takes it; ``policy``
    acts in place of the run's own. Raises ConfigurationError where model, planner and objective do not fit.
    """
    from worldflux.evals import returns_in_words
    from worldflux.experiment import Run
    from worldflux.planners import PLANNERS

    with apart(), computing(threads):
        loaded = Run.load(run, **(env or {}))
        results = {}
        if planner is not None:
            results["planned"] = loaded.plan(
                planner, objective=objective, episodes=episodes, seed=seed, explore=bool(explore)
            )
        results["trained"] = loaded.evaluate(episodes=episodes, seed=seed, explore=explore, policy=policy)
        results["random"] = loaded.random_baseline(episodes=episodes, seed=seed)
    data: dict[str, Any] = {
        "run": run,
        "model": loaded.settings.model,
        "env": loaded.settings.env,
        "weights": loaded.weights,
    }
    lines = [f"{loaded.settings.model} in {loaded.settings.env}, {episodes} episodes, seed {results['random'].seed}"]
    if planner is not None:
        name = next((name for name, kind in PLANNERS.items() if type(planner) is kind), type(planner).__name__)
        data["planner"] = {"name": name, **asdict(planner)}
        lines.append(f"planned by {name}, {planner.horizon} steps ahead at every step")
    rows = [
        (name, f"{r.mean:.2f} ± {r.std:.2f}", f"{r.min:.2f}", f"{r.max:.2f}", f"{r.mean_length:.1f}")
        for name, r in results.items()
    ]
    cut = [
        f"{name}: {r.unfinished} episodes did not end; cut, they had earned {r.cut_mean:.2f}"
        for name, r in results.items()
        if r.unfinished
    ]
    lines.append(table(("POLICY", "RETURN (MEAN ± STD)", "MIN", "MAX", "LENGTH"), rows))
    lines += cut
    data["in_words"] = returns_in_words(results)
    lines += data["in_words"]
    data |= {name: result.to_dict() for name, result in results.items()}
    emit(data, "\n".join(lines), as_json=as_json)
