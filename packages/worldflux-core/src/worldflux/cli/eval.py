"""``worldflux eval``: what a run's policy earns beside the random one, and what its model predicts beside baselines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worldflux.core.errors import ConfigurationError

from .compute import ThreadsOption, computing
from .data_options import DataSetOption, TrainedSkipOption
from .environment import (
    EnvOption,
    EnvSetOption,
    FrameStackOption,
    ImageSizeOption,
    PolicyOption,
    RenderSizeOption,
    named,
)
from .goal_options import BudgetOption, EnergyOption, ExecuteOption, KeyOption, OverOption, over_of
from .judged import horizon_table, horizon_told, interval, kept
from .light import Command
from .measure import about, earned, returns_told
from .opening import load_run, open_recorded
from .output import JsonOption, apart, emit
from .sought import goals_across, goals_kept

if TYPE_CHECKING:
    from worldflux.data import Dataset
    from worldflux.evals import GoalEvaluation
    from worldflux.experiment import Run

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(cls=Command)
def evaluate(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Directories of runs, or of saved models (with --env or --data)."),
    ],
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Recorded episodes to judge the model on: a path or FORMAT:PATH."),
    ] = None,
    data_set: DataSetOption = None,
    context: Annotated[int, typer.Option(min=1, help="Recorded rows the model sees before it imagines.")] = 5,
    horizon: Annotated[int, typer.Option(min=1, help="Rows it imagines.")] = 15,
    sequences: Annotated[int, typer.Option(min=1, help="Recorded sequences to average over.")] = 64,
    frame_skip: TrainedSkipOption = None,
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
        str | None,
        typer.Option(help="Plan with the model, too: random, cem, icem, mppi, gradient; to goals also inverse."),
    ] = None,
    plan_horizon: Annotated[int | None, typer.Option(min=1, help="Steps a plan looks ahead.")] = None,
    energy: EnergyOption = "l1",
    over: OverOption = "last",
    key: KeyOption = None,
    budget: BudgetOption = None,
    execute: ExecuteOption = 2,
    out: Annotated[
        Path | None, typer.Option(help="Where numbers and pictures by horizon go; by default a run's directory.")
    ] = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Measure a trained policy in its environment, and a model by horizon on recorded episodes it did not learn from.

    Where the environment has goals, planning towards them is measured, too.

    \b
    Examples:
      worldflux eval runs/cartpole --episodes 20 --json
      worldflux eval runs/cartpole --planner cem --plan-horizon 8
      worldflux eval runs/mine --env my_env.py:MyEnv
      worldflux eval runs/offline --horizon 15
      worldflux eval runs/cartpole/model --data recorded --frame-skip 2 --out judged
      worldflux eval runs/rooms --env study:two-room --episodes 50
    """
    chosen = _planner(planner, plan_horizon)
    if out is not None and len(runs) > 1:
        raise ConfigurationError("--out is for one run: each of several keeps its numbers in its own directory")
    acting = {"episodes": episodes, "seed": seed, "explore": explore, "policy": policy, "planner": chosen}
    judging = {"context": context, "horizon": horizon, "sequences": sequences, "seed": seed, "frame_skip": frame_skip}
    towards = {"energy": energy, "over": over_of(over), "key": key, "budget": budget, "execute": execute}
    towards |= {"episodes": episodes, "seed": seed, "planner": planner, "plan_horizon": plan_horizon}
    with apart(), computing(threads), named(env, env_set) as told:
        told |= {"image_size": image_size, "render_size": render_size, "frame_stack": frame_stack}
        recorded = open_recorded(data, data_set)
        measured = [
            _measured(run, recorded, told, acting=acting, towards=towards, judging=judging, out=out) for run in runs
        ]
    documents, texts = [document for document, _ in measured], [text for _, text in measured]
    if len(runs) == 1:
        emit(documents[0], texts[0], as_json=json)
        return
    together, returns = _together(documents)
    texts += [f"over {len(runs)} runs, the {name} policy earns {interval(iqm)} (IQM)" for name, iqm in returns.items()]
    if together:
        texts.append(f"over {len(runs)} runs, interquartile means\n" + horizon_table(together, horizon))
    across = {"across_runs": together} if together else {}
    across |= {"returns_across_runs": returns} if returns else {}
    if all("goals" in document for document in documents):
        across["goals_across_runs"], text = goals_across([document["goals"] for document in documents])
        texts.append(text)
    emit({"runs": documents, **across}, "\n\n".join(texts), as_json=json)


def _planner(name: str | None, horizon: int | None) -> Any:
    if name is None and horizon is not None:
        raise ConfigurationError("--plan-horizon needs --planner NAME, the planner it is for")
    if name is None:
        return None
    from worldflux.planners import make_planner

    return make_planner(name, **({} if horizon is None else {"horizon": horizon}))


def _measured(
    run: Path,
    recorded: Dataset | None,
    told: Mapping[str, Any],
    *,
    acting: Mapping[str, Any],
    towards: Mapping[str, Any],
    judging: Mapping[str, Any],
    out: Path | None,
) -> tuple[dict[str, Any], str]:
    """What one run earns, where there is an environment, and predicts, where there is data; for JSON and as text."""
    from worldflux.experiment import judge
    from worldflux.experiment.goals import has_goals, not_compared, plans_alone

    loaded = load_run(run, recorded, told)
    settings = loaded.settings
    document, texts, results = about(loaded, run), [], None
    acts = settings.acts_in is not None or told.get("env") is not None
    judged = recorded is not None or (bool(settings.data) and (settings.held_out > 0 or not acts))
    if not judged and judging["frame_skip"] is not None:
        raise ConfigurationError("--frame-skip is about recorded data: name it, --data DIR")
    goals = acts and has_goals(loaded)
    if goals and (why := not_compared(loaded.model, towards["key"])):
        document["goals_not_measured"] = why
        texts.append(f"how often goals are reached was not measured: {why}")
    elif goals:
        data, text = goals_kept(loaded, _towards(loaded, **towards), folder=out)
        document |= data
        texts.append(text)
    if (acts or not judged) and not (goals and plans_alone(loaded.model)):
        results = earned(loaded, **acting)
        data, text = returns_told(loaded, results, planner=acting["planner"])
        document |= data
        texts.append(text)
        if loaded.learned is not None and loaded.learned.behaviour is not None:
            document["behaviour"] = loaded.learned.behaviour
            texts.append(f"the recorded episodes earned {loaded.learned.behaviour:.2f} on average")
    if judged:
        result = judge(loaded, recorded, returns=results, **judging)
        folder = out or (None if loaded.status == "saved" else loaded.directory)
        found = kept(result, folder)
        words = [*document.get("in_words", []), *found["horizon"]["in_words"]]
        document |= {**found, "in_words": words}
        texts.append(horizon_told(found))
    return document, "\n\n".join(texts)


def _towards(loaded: Run, *, planner: str | None, plan_horizon: int | None, **asked: Any) -> GoalEvaluation:
    """How often planning reaches the goals of the environment."""
    from worldflux.experiment.goals import goal_planner, reach_goals

    chosen = goal_planner(planner or "cem", **({} if plan_horizon is None else {"horizon": plan_horizon}))
    return reach_goals(loaded, planner=chosen, **asked)


def _together(documents: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What several runs measured by horizon, and earned, put together; nothing where one of them did not."""
    from worldflux.evals import across_runs, earned_across_runs

    judged = [document["horizon"] for document in documents if "horizon" in document]
    return across_runs(judged) if len(judged) == len(documents) else {}, earned_across_runs(documents)
