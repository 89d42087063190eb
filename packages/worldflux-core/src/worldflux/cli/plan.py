"""``worldflux plan``: what planning with a run's model earns, beside its policy and the random one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .assignments import assignments
from .compute import ThreadsOption
from .environment import EnvOption, EnvSetOption, FrameStackOption, ImageSizeOption, RenderSizeOption, named
from .light import Command
from .measure import measure
from .output import JsonOption

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(cls=Command)
def plan(
    run: Annotated[Path, typer.Argument(help="The directory of a run, or of a saved model (with --env).")],
    env: EnvOption = None,
    env_set: EnvSetOption = None,
    image_size: ImageSizeOption = None,
    render_size: RenderSizeOption = None,
    frame_stack: FrameStackOption = None,
    planner: Annotated[str, typer.Option(help="random, cem, icem, mppi or gradient.")] = "cem",
    plan_horizon: Annotated[
        int | None, typer.Option(min=1, help="Steps a plan looks ahead; by default the planner's.")
    ] = None,
    discount: Annotated[
        float, typer.Option(min=0, max=1, help="Of predicted rewards; 1 where the model's continues carry one.")
    ] = 0.99,
    episodes: Annotated[int, typer.Option(min=1, help="Complete episodes to run.")] = 5,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the episodes; by default the run's seed + 10000.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the planner; may be repeated."),
    ] = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Plan for the rewards that a run's model predicts, at every step of complete episodes.

    Nothing is learned. The run's own policy and the random one meet the same starts.

    \b
    Examples:
      worldflux plan runs/cartpole
      worldflux plan runs/cartpole --planner mppi --plan-horizon 8 --set num_samples=64 --json
    """
    from worldflux.planners import RewardObjective, make_planner

    options: dict[str, Any] = assignments(set_ or [])
    if plan_horizon is not None:
        options["horizon"] = plan_horizon
    chosen = make_planner(planner, **options)
    objective = RewardObjective(discount)
    with named(env, env_set) as about:
        measure(
            run,
            episodes=episodes,
            seed=seed,
            env={**about, "image_size": image_size, "render_size": render_size, "frame_stack": frame_stack},
            planner=chosen,
            objective=objective,
            threads=threads,
            as_json=json,
        )
