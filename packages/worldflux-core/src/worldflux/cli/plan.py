"""``worldflux plan``: what planning with a run's model earns, or how well it reaches goals, beside chance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worldflux.core.errors import ConfigurationError

from .assignments import assignments
from .compute import ThreadsOption, computing
from .data_options import DataSetOption
from .environment import EnvOption, EnvSetOption, FrameStackOption, ImageSizeOption, RenderSizeOption, named
from .goal_options import BudgetOption, EnergyOption, KeyOption, OverOption, over_of
from .light import Command
from .measure import about as about_run, measure
from .opening import load_run, open_recorded
from .output import JsonOption, apart, emit
from .sought import goals_kept, sought_kept

if TYPE_CHECKING:
    from worldflux.experiment import Run

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(cls=Command)
def plan(
    run: Annotated[Path, typer.Argument(help="The directory of a run, or of a saved model (with --env).")],
    goal: Annotated[
        str | None,
        typer.Option(
            metavar="GOAL",
            help="Plan to a goal: env (the environment's own), a picture, FILE.npy, state:NAME=0.3,0.7 or "
            "DATA#EPISODE,ROW.",
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="Recorded data for the probe of a saved model's state: goal.")
    ] = None,
    data_set: DataSetOption = None,
    env: EnvOption = None,
    env_set: EnvSetOption = None,
    image_size: ImageSizeOption = None,
    render_size: RenderSizeOption = None,
    frame_stack: FrameStackOption = None,
    planner: Annotated[str, typer.Option(help="random, cem, icem, mppi, gradient or inverse.")] = "cem",
    plan_horizon: Annotated[
        int | None, typer.Option(min=1, help="Steps a plan looks ahead; by default the planner's.")
    ] = None,
    discount: Annotated[
        float, typer.Option(min=0, max=1, help="Of predicted rewards; 1 where the model's continues carry one.")
    ] = 0.99,
    energy: EnergyOption = "l1",
    over: OverOption = "last",
    key: KeyOption = None,
    budget: BudgetOption = None,
    execute: Annotated[
        int | None, typer.Option(min=1, help="Actions of a plan that are done; default 1, towards goals 2.")
    ] = None,
    episodes: Annotated[
        int | None, typer.Option(min=1, help="Complete episodes to run; default 5, towards goals 50.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the episodes; by default the run's seed + 10000.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the planner; may be repeated."),
    ] = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Plan for the rewards that a run's model predicts, or towards a goal, in complete episodes.

    Nothing is learned. Without a goal the run's own policy and the random one meet the same starts; towards goals
    uniform and persistent random actions do.

    \b
    Examples:
      worldflux plan runs/cartpole
      worldflux plan runs/cartpole --planner mppi --plan-horizon 8 --set num_samples=64 --json
      worldflux plan runs/rooms --goal env --env study:two-room
      worldflux plan runs/rooms --goal state:agent=0.3,0.7 --env study:two-room
    """
    options: dict[str, Any] = assignments(set_ or [])
    if plan_horizon is not None:
        options["horizon"] = plan_horizon
    seen = {"image_size": image_size, "render_size": render_size, "frame_stack": frame_stack}
    if goal is not None:
        asked = {
            "budget": budget,
            "execute": execute or 2,
            "seed": seed,
            "energy": energy,
            "over": over_of(over),
            "key": key,
        }
        with apart(), computing(threads), named(env, env_set) as told:
            recorded = open_recorded(data, data_set)
            loaded = load_run(run, recorded, {**told, **seen})
            document, text = _towards(loaded, goal, (planner, options), {**asked, "episodes": episodes or 50})
        emit({**about_run(loaded, run), **document}, text, as_json=json)
        return
    for name, value, left in (("--budget", budget, None), ("--key", key, None), ("--data", data, None)):
        if value != left:
            raise ConfigurationError(f"{name} is about planning towards a goal: name one with --goal, or leave it out")
    from worldflux.planners import RewardObjective, make_planner

    chosen = make_planner(planner, **options)
    with named(env, env_set) as told:
        measure(
            run,
            episodes=episodes or 5,
            seed=seed,
            env={**told, **seen},
            planner=chosen,
            objective=RewardObjective(discount),
            execute=execute or 1,
            threads=threads,
            as_json=json,
        )


def _towards(
    loaded: Run, goal: str, planner: tuple[str, dict[str, Any]], asked: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """What planning towards the environment's goals, or a given one, comes to; for JSON and as text."""
    from worldflux.experiment.goals import goal_planner, reach_goals, seek

    name, options = planner
    asked["planner"] = goal_planner(name, **options)
    if goal == "env":
        return goals_kept(loaded, reach_goals(loaded, **asked))
    return sought_kept(loaded, seek(loaded, goal, **asked))
