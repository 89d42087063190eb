"""From a model's name and an environment to a trained, measured and saved model."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from worldflux.agent import Spaces, spaces_of, write_spaces
from worldflux.core.errors import ConfigurationError
from worldflux.core.files import expanded, write_json
from worldflux.core.model import WorldModel
from worldflux.data import EnvironmentSource
from worldflux.envs.identity import Fresh
from worldflux.evals import EvalResult, evaluate_policy
from worldflux.training import (
    Callback,
    EvalCallback,
    ProgressCallback,
    Trainer,
    environment_source,
)
from worldflux.training.threads import using

from .actors import make_policy
from .environment import FACTORY, Env, closed_to_imports, env_name, stored_env
from .run import Evaluation, Run, create_model, eval_envs
from .settings import Plan, Settings, make_plan, read_asked, read_settings, resolved

logger = logging.getLogger(__name__)

KEEP_CHECKPOINTS = 2  # each holds the replay


def fit(
    model: str,
    *,
    env: Env,
    run: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> Run:
    """Train ``model`` in ``env``, evaluate it beside the random policy, save everything, and return the run.

    Args:
        model: a preset such as ``"dreamer:ci"``, an alias, or the folder of a saved model.
        env: what ``make_env`` takes by name (``"CartPole-v1"``, ``"file.py:Class"``), or a callable that makes a new
            one at every call.
        run: the run's directory; by default ``runs/MODEL_ENV_SEED``.
        resume: go on from the newest whole checkpoint in ``run``.
        callbacks: beside those for progress, metrics, checkpoints and evaluation.
        options: the other fields of ``Settings`` (``steps=``, ``seed=``, ``num_envs=``, …).

    Raises:
        ConfigurationError: an unknown model, environment or option; ``run`` holds another run.
        CheckpointError: nothing to resume from, or something cannot be written.
        TrainingError: the loss is not finite, or the environment failed.
    """
    asked = {"model": model, "env": env_name(env), **options}
    env = env if isinstance(env, str) else Fresh(env)
    settings, told = Settings.from_dict(asked), set(asked)
    directory = expanded(run) if run is not None else default_directory(settings)
    if directory.is_file():
        raise ConfigurationError(f"{directory} is a file, expected the directory of a run")
    if resume:
        stored = read_settings(directory)
        settings = Settings.from_dict({**stored.asked(), **asked}).resuming(stored)
        told |= read_asked(directory)
    elif any((directory / "checkpoints").glob("step-*")):
        raise ConfigurationError(
            f"{directory} already holds a run; resume it (--resume, or resume=True), or choose another directory"
        )
    with contextlib.closing(Run(directory, settings, env=env).make_env(seed=settings.seed)) as probe:
        built, spaces = create_model(settings, probe), spaces_of(probe)
    plan = make_plan(settings, built)
    if (plan.settings.steps or 0) < plan.warmup:
        logger.warning(
            "%d environment steps end before the first update: %d are collected first, and one update is all; raise "
            "steps, or lower what comes first (a model's seed_steps, or the batch)", plan.settings.steps, plan.warmup,
        )  # fmt: skip
    finished = Run(directory, plan.settings, env=env, model=built, status="running")
    trainer = _trainer(built, plan, directory, told, [*callbacks, *([] if spaces is None else [_KeepSpaces(spaces)])])
    with _collecting(finished, trainer, plan) as source, _periodic_evaluation(finished) as evaluate:
        trainer.add_callback(EvalCallback(evaluate))
        trainer.train(source, resume_from=directory if resume else None)
        finished.status = trainer.status
        built.eval()
        if trainer.status == "finished":
            with using(trainer.config.threads):
                _conclude(finished, trainer)
    return finished


def resume_run(directory: str | Path, *, env: Env | None = None, **changes: Any) -> Run:
    """Go on with the run in a directory; ``changes`` may set a new number of ``steps`` and the like.

    ``env`` is needed where the run's file cannot name it (see :meth:`Run.load`).

    Raises:
        ConfigurationError: a change would make it another run.
        CheckpointError: nothing to resume from.
    """
    stored = read_settings(directory)
    options = {"model": stored.model, "env": stored.env, **changes}
    model, name = options.pop("model"), options.pop("env")
    if env is not None:
        return fit(model, env=env, run=directory, resume=True, **options)
    unasked = {} if "env_options" in changes else stored.env_options
    with closed_to_imports(expanded(directory)):
        env = stored_env(name, unasked, place=expanded(directory))
        return fit(model, env=env, run=directory, resume=True, **options)


class _KeepSpaces(Callback):
    """Keeps the environment's spaces with the run, so that its model can act where the environment cannot be made."""

    def __init__(self, spaces: Spaces) -> None:
        self.spaces = spaces

    def on_train_begin(self, trainer: Trainer) -> None:
        write_spaces(trainer.run_dir, self.spaces)


def default_directory(settings: Settings) -> Path:
    """Return ``runs/MODEL_ENV_SEED`` with every character that is awkward in a file's name as a dash."""
    name = f"{Path(settings.model).name}_{settings.env.removesuffix(FACTORY)}_{settings.seed}"
    return Path("runs") / "".join(c if c.isalnum() or c in "._-" else "-" for c in name)


def _trainer(model: WorldModel, plan: Plan, directory: Path, told: set[str], callbacks: Sequence[Callback]) -> Trainer:
    settings = plan.settings
    config = replace(
        settings.training,
        given=settings.training.names(),  # all of it was chosen
        total_steps=plan.updates,
        log_interval=max(1, min(100, plan.updates // 100)),
        eval_interval=plan.interval(settings.eval_every),
        save_interval=plan.interval(settings.save_every),
        keep_checkpoints=KEEP_CHECKPOINTS,
        output_dir=str(directory),
    )
    choices = {"asked": sorted(told), "resolved": resolved(plan, model, config.resolve_device())}
    return Trainer(model, config, [ProgressCallback(), *callbacks], run_info={**settings.to_dict(), **choices})


@contextlib.contextmanager
def _collecting(run: Run, trainer: Trainer, plan: Plan) -> Iterator[EnvironmentSource]:
    """Give the environments and their replay as a source, and close them in the end."""
    collect = run.settings.collect
    collect = replace(collect, given=collect.names())  # all of it was chosen
    steps = plan.settings.steps or 0
    limits = {"patience": min(steps, 10_000), "step_limit": max(steps, plan.warmup)}  # episodes may be short
    with contextlib.closing(run.make_env(num_envs=collect.num_envs, seed=run.settings.training.seed)) as env:
        settings = run.settings
        policy = make_policy(trainer.model, settings.policy or "own", options=settings.policy_options)
        yield environment_source(trainer.model, env, training=trainer.config, collect=collect, policy=policy, **limits)


@contextlib.contextmanager
def _periodic_evaluation(run: Run) -> Iterator[Callable[[Trainer], Mapping[str, float]]]:
    """Give the evaluation that runs now and then: always the same episodes, in environments kept open."""
    seed, episodes = run.eval_seed(None), run.settings.eval_episodes
    with contextlib.closing(run.make_env(num_envs=eval_envs(episodes), seed=seed)) as env:

        def evaluate(trainer: Trainer) -> Mapping[str, float]:
            policy = run.policy(trainer.model, seed=seed)
            explore = bool(run.settings.eval_explore)
            return _record(evaluate_policy(env, policy, episodes=episodes, explore=explore, seed=seed))

        yield evaluate


def _record(result: EvalResult) -> dict[str, float]:
    return {
        "eval/return": result.mean,
        "eval/return_std": result.std,
        "eval/return_min": result.min,
        "eval/return_max": result.max,
        "eval/length": result.mean_length,
    }


def _conclude(run: Run, trainer: Trainer) -> None:
    """Evaluate a finished run beside the random policy, and write evaluation.json and the learning curve."""
    episodes = run.settings.eval_episodes
    run.evaluation = Evaluation(run.evaluate(episodes=episodes), run.random_baseline(episodes=episodes))
    trainer.log(_record(run.evaluation.trained))
    write_json(run.directory / "evaluation.json", run.evaluation.to_dict())
    try:
        run.save_learning_curve(random_mean=run.evaluation.random.mean)
    except ConfigurationError as error:  # a picture is not worth failing a training for
        logger.warning("no learning curve: %s", error)
