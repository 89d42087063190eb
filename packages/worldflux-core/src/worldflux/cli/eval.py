"""``worldflux eval``: what a run's policy earns, beside the random policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worldflux.core.errors import ConfigurationError

from .compute import ThreadsOption
from .environment import (
    EnvOption,
    EnvSetOption,
    FrameStackOption,
    ImageSizeOption,
    PolicyOption,
    RenderSizeOption,
    named,
)
from .light import Command
from .measure import measure
from .output import JsonOption

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(cls=Command)
def evaluate(
    run: Annotated[Path, typer.Argument(help="The directory of a run, or of a saved model (with --env).")],
    env: EnvOption = None,
    env_set: EnvSetOption = None,
    image_size: ImageSizeOption = None,
    render_size: RenderSizeOption = None,
    frame_stack: FrameStackOption = None,
    episodes: Annotated[int, typer.Option(min=1, help="Complete episodes to run.")] = 20,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the episodes; by default the run's seed + 10000.")] = None,
    explore: Annotated[
        bool | None,
        typer.Option("--explore/--best", help="Act as in training, or always take the best action; else as trained."),
    ] = None,
    policy: PolicyOption = None,
    planner: Annotated[
        str | None, typer.Option(help="Plan with the model, too: random, cem, icem, mppi or gradient.")
    ] = None,
    plan_horizon: Annotated[int | None, typer.Option(min=1, help="Steps a plan looks ahead.")] = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Run complete episodes with a trained policy and with the random one, and with a planner if one is named.

    \b
    Examples:
      worldflux eval runs/cartpole --episodes 20 --json
      worldflux eval runs/cartpole --planner cem --plan-horizon 8
      worldflux eval runs/mine --env my_env.py:MyEnv
    """
    if planner is None and plan_horizon is not None:
        raise ConfigurationError("--plan-horizon needs --planner NAME, the planner it is for")
    chosen = None
    if planner is not None:
        from worldflux.planners import make_planner

        chosen = make_planner(planner, **({} if plan_horizon is None else {"horizon": plan_horizon}))
    with named(env, env_set) as about:
        measure(
            run,
            episodes=episodes,
            seed=seed,
            explore=explore,
            policy=policy,
            env={**about, "image_size": image_size, "render_size": render_size, "frame_stack": frame_stack},
            planner=chosen,
            threads=threads,
            as_json=json,
        )
