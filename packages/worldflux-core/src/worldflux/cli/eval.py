"""``worldflux eval``: what a run's policy earns, beside the random policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .light import Command
from .output import JsonOption, apart, emit, table

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(cls=Command)
def evaluate(
    run: Annotated[Path, typer.Argument(help="The directory of a run.")],
    episodes: Annotated[int, typer.Option(min=1, help="Complete episodes to run.")] = 20,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the episodes; by default the run's seed + 10000.")] = None,
    explore: Annotated[
        bool | None,
        typer.Option("--explore/--best", help="Act as in training, or always take the best action; else as trained."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run complete episodes with a trained policy and with the random one.

    \b
    Example:
      worldflux eval runs/cartpole --episodes 20 --json
    """
    from worldflux.experiment import Run

    with apart():
        loaded = Run.load(run)
        trained = loaded.evaluate(episodes=episodes, seed=seed, explore=explore)
        random = loaded.random_baseline(episodes=episodes, seed=seed)
    data = {
        "run": run,
        "model": loaded.settings.model,
        "env": loaded.settings.env,
        "weights": loaded.weights,
        "trained": trained.to_dict(),
        "random": random.to_dict(),
    }
    rows = [
        (name, f"{r.mean:.2f} ± {r.std:.2f}", f"{r.min:.2f}", f"{r.max:.2f}", f"{r.mean_length:.1f}")
        for name, r in (("trained", trained), ("random", random))
    ]
    head = f"{loaded.settings.model} in {loaded.settings.env}, {episodes} episodes, seed {trained.seed}"
    emit(
        data,
        head + "\n" + table(("POLICY", "RETURN (MEAN ± STD)", "MIN", "MAX", "LENGTH"), rows),
        as_json=json,
    )
