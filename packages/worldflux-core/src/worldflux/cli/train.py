"""``worldflux train``: a model's name and an environment or data in, a trained model out."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worldflux.core.errors import ConfigurationError, TrainingError
from worldflux.files import expanded
from worldflux.words.counts import counted

from .assignments import assignments
from .compute import ThreadsOption, threads_asked
from .data_options import (
    BoundaryOption,
    DataOption,
    DataSetOption,
    DataWeightsOption,
    FrameSkipOption,
    HeldOutOption,
    ObsOption,
    numbers,
)
from .environment import EnvSetOption, FrameStackOption, ImageSizeOption, PolicyOption, RenderSizeOption, named, needed
from .light import Command
from .output import JsonOption, emit, fields, narrated, say

if TYPE_CHECKING:
    from worldflux.evals import EvalResult
    from worldflux.experiment import Run

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(cls=Command)
def train(
    model: Annotated[
        str | None, typer.Argument(help="A preset, such as dreamer:ci (with --resume: the run's).")
    ] = None,
    env: Annotated[
        str | None,
        typer.Option(help="CartPole-v1, dmc:cartpole-balance, module:Name-v0 or file.py:Class, for example."),
    ] = None,
    data: DataOption = None,
    data_weights: DataWeightsOption = None,
    data_set: DataSetOption = None,
    held_out: HeldOutOption = None,
    obs: ObsOption = None,
    frame_skip: FrameSkipOption = None,
    boundary: BoundaryOption = None,
    eval_env: Annotated[
        str | None, typer.Option(help="With --data alone: where the policy is evaluated, but nothing collected.")
    ] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", metavar="RUN", help="Start from the weights of a run or saved model.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Directory of the run; by default runs/MODEL_ENV_SEED.")] = None,
    updates: Annotated[
        int | None,
        typer.Option(min=1, help="With --data alone: updates; by default as many as the model's steps make."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Environment steps; by default the model's, else 100000.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of the model, the environments and the replay; default 0.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest whole checkpoint of --run.")] = False,
    num_envs: Annotated[int | None, typer.Option(min=1, help="Environments in lockstep.")] = None,
    image_size: ImageSizeOption = None,
    render_size: RenderSizeOption = None,
    frame_stack: FrameStackOption = None,
    replay_ratio: Annotated[float | None, typer.Option(min=0, help="Replayed rows for each environment step.")] = None,
    replay_capacity: Annotated[int | None, typer.Option(min=1, help="Rows the replay holds.")] = None,
    replay_bytes: Annotated[
        str | None, typer.Option(metavar="SIZE", help="What the replay may take, 8GB for example.")
    ] = None,
    replay_storage: Annotated[
        str | None, typer.Option(help="ram, mmap (files in the run), cuda; auto is ram where that is enough.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Sequences in a batch.")] = None,
    sequence_length: Annotated[int | None, typer.Option(min=1, help="Rows in a sequence.")] = None,
    eval_every: Annotated[
        int | None,
        typer.Option(min=0, help="Environment steps (of data: updates) between evaluations; 0: only at the end."),
    ] = None,
    eval_episodes: Annotated[int | None, typer.Option(min=1, help="Episodes of an evaluation.")] = None,
    eval_max_steps: Annotated[
        int | None, typer.Option(min=1, help="Steps after which an evaluation cuts an episode; default: as it says.")
    ] = None,
    eval_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Part of the time that evaluations may take; default 0.2.")
    ] = None,
    save_every: Annotated[
        int | None,
        typer.Option(min=0, help="Environment steps (of data: updates) between checkpoints; 0: only at the end."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    threads: ThreadsOption = None,
    policy: PolicyOption = None,
    policy_set: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="An option of the planner that --policy names; may be repeated."),
    ] = None,
    env_set: EnvSetOption = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the model's config; may be repeated."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Train a model in an environment, then evaluate it beside the random policy and save it.

    With --data it learns from recorded episodes instead, and is evaluated on those that are held out; with --data and
    --env the recorded rows are there when collecting begins.

    Ctrl-C and SIGTERM save a checkpoint at once or after the update at hand, and exit with 130 or 143; --resume goes
    on from it.

    \b
    Examples:
      worldflux train dreamer:ci --env CartPole-v1 --run runs/cartpole
      worldflux train --run runs/cartpole --resume
      worldflux train dreamer:ci --env Pendulum-v1 --steps 20000 --set hidden_dim=128
      worldflux train dreamer:ci --env my_env.py:MyEnv --env-set difficulty=3
      worldflux train dreamer:ci --data sets/cartpole --updates 2000 --run runs/offline
      worldflux train --from runs/offline --env CartPole-v1 --data sets/cartpole
    """
    from worldflux.training.signals import StopSignals  # before torch, whose import takes its time

    given: dict[str, Any] = {
        "model": model,
        "data": data,
        "data_weights": numbers(data_weights, option="--data-weights") if data_weights else None,
        "data_options": assignments(data_set, option="--data-set") if data_set else None,
        "held_out": held_out,
        "obs": obs,
        "frame_skip": frame_skip,
        "boundary": boundary,
        "start_from": from_,
        "updates": updates,
        "steps": steps,
        "seed": seed,
        "num_envs": num_envs,
        "image_size": image_size,
        "render_size": render_size,
        "frame_stack": frame_stack,
        "replay_ratio": replay_ratio,
        "replay_capacity": replay_capacity,
        "replay_bytes": replay_bytes,
        "replay_storage": replay_storage,
        "batch_size": batch_size,
        "sequence_length": sequence_length,
        "eval_every": eval_every,
        "eval_episodes": eval_episodes,
        "eval_max_steps": eval_max_steps,
        "eval_share": eval_share,
        "save_every": save_every,
        "device": device,
        "threads": threads_asked(threads),
        "policy": policy,
        "policy_options": assignments(policy_set, option="--policy-set") if policy_set else None,
        "model_options": assignments(set_) if set_ else None,
    }
    given = {name: value for name, value in given.items() if value is not None}
    run = None if run is None else expanded(run)
    with (
        StopSignals() as signals,
        narrated(),
        acting(env, eval_env, env_set) as about,
        _way_back(run, needed(about, resume=resume)),
    ):
        from worldflux.experiment import fit, resume_run

        given |= about
        given["callbacks"] = [_commands_way_back(needed(about, resume=resume))]
        if resume:
            if run is None:
                raise ConfigurationError("--resume needs --run DIR, the run to go on with")
            if eval_env is not None:
                given["env"] = given.pop("eval_env")
            finished = resume_run(run, **given)
        else:
            if (model is None and from_ is None) or (env is None and not data):
                missing = "MODEL" if model is None and from_ is None else "--env ID"
                raise ConfigurationError(
                    f"{missing} is missing, as in: worldflux train dreamer:ci --env CartPole-v1, or from recorded "
                    "data: worldflux train dreamer:ci --data DIR"
                )
            finished = fit(given.pop("model", None), run=run, **given)
    directory = finished.directory
    if finished.status != "finished":
        command = _resume_command(directory, needed(about, resume=resume))
        stopped = {"run": directory, "status": finished.status, "resume": command}
        emit(stopped, f"Stopped and saved. Go on with: {command}", as_json=json)
        raise typer.Exit(signals.exit_code)
    outcome, shown = _outcome(finished)
    emit(outcome, fields(shown), as_json=json)


def _outcome(run: Run) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a finished run came to: for ``--json``, and to be read."""
    directory = run.directory
    places = {
        "run": directory,
        "model": directory / "model",
        "metrics": directory / "metrics.jsonl",
        "evaluation": directory / "evaluation.json",
        "held_out": directory / "held_out.json",
        "curve": directory / "learning_curve.png",
    }
    places = {name: path for name, path in places.items() if path.exists()}
    data: dict[str, Any] = {"status": run.status}
    shown: dict[str, Any] = {}
    if (evaluation := run.evaluation) is not None:
        trained = evaluation.trained
        shown["trained"] = f"{_earned(trained)} over {counted(trained.episodes or trained.unfinished, 'episode')}"
        shown["random"] = _earned(evaluation.random)
        data |= evaluation.to_dict()
    if (learned := run.learned) is not None:
        shown["loss"] = f"{learned.losses['loss']:.4g} on {counted(learned.episodes, 'held-out episode')}"
        if learned.behaviour is not None:
            shown["recorded"] = f"{learned.behaviour:.2f} mean return of the recorded episodes"
        data["held_out"] = learned.to_dict()
    return {**data, "places": places}, {**shown, **places}


@contextmanager
def acting(env: str | None, eval_env: str | None, env_set: list[str] | None) -> Iterator[dict[str, Any]]:
    """Give what was said of the environment that is collected in, or only evaluated in."""
    if env is not None and eval_env is not None:
        raise ConfigurationError("--env is evaluated in, too: leave --eval-env out, or --env to collect nothing")
    with named(env or eval_env, env_set) as about:
        if eval_env is not None:
            about["eval_env"] = about.pop("env")
        yield about


@contextmanager
def _way_back(run: Path | None, env: str | None) -> Iterator[None]:
    """Say how to go on if training fails, or is ended at once, after a checkpoint."""
    try:
        yield
    except (TrainingError, KeyboardInterrupt, SystemExit):
        if run is not None and any((run / "checkpoints").glob("step-*")):
            say(f"Go on with: {_resume_command(run, env)}")
        raise


def _earned(result: EvalResult) -> str:
    if result.episodes:
        return f"{result.mean:.2f} ± {result.std:.2f}"
    return f"no episode ended; {result.cut_mean:.2f} until they were cut,"


def _commands_way_back(env: str | None) -> Any:
    """A callback that has the training's messages say how the command goes on with a run."""
    from worldflux.training import Callback

    class WayBack(Callback):
        def on_train_begin(self, trainer: Any) -> None:
            trainer.way_back = _resume_command(trainer.run_dir, env)

    return WayBack()


def _resume_command(run: Path, env: str | None) -> str:
    named_again = "" if env is None else f" --env {shlex.quote(env)}"
    return f"worldflux train --run {shlex.quote(str(run))} --resume{named_again}"
