"""From a model's name and an environment to a trained, measured and saved model."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from worldflux.agent import Spaces, spaces_of, write_spaces
from worldflux.core.errors import ConfigurationError
from worldflux.core.model import WorldModel
from worldflux.data import EnvironmentSource
from worldflux.envs.closing import closing
from worldflux.envs.identity import Fresh
from worldflux.files import expanded
from worldflux.training import Callback, CheckpointCallback, ProgressCallback, Trainer, environment_source
from worldflux.training.checkpoint import checkpoints
from worldflux.training.lock import RunLock
from worldflux.training.signals import Interrupted, StopSignals
from worldflux.training.threads import using

from .actors import make_policy
from .ended import already_finished
from .environment import FACTORY, Env, closed_to_imports, env_name, named_again, stored_env
from .measuring import Measuring
from .run import Run, create_model
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
        resume: go on from the newest whole checkpoint in ``run``, or begin anew what was stopped before its first.
        callbacks: beside those for progress, metrics, checkpoints and evaluation.
        options: the other fields of ``Settings`` (``steps=``, ``seed=``, ``num_envs=``, …).

    Raises:
        ConfigurationError: an unknown model, environment or option; ``run`` holds another run, or is trained in just
            now; fewer ``steps`` than a resumed run has taken.
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
        if (finished := already_finished(directory, settings, stored, env=env)) is not None:
            return finished
        told |= read_asked(directory)
    with RunLock(directory) as lock, StopSignals() as signals:
        found = checkpoints(directory / "checkpoints")
        if found and not resume:
            raise ConfigurationError(
                f"{directory} already holds a run; resume it (--resume, or resume=True), or choose another directory"
            )
        if resume and not found:
            logger.warning("%s was stopped before its first checkpoint: it begins anew", directory)
        with closing(Run(directory, settings, env=env).make_env(seed=settings.seed)) as probe:
            built, spaces = create_model(settings, probe), spaces_of(probe)
        plan = make_plan(settings, built)
        _warn_of_few_steps(plan)
        finished = Run(directory, plan.settings, env=env, model=built, status="running")
        kept = [] if spaces is None else [_KeepSpaces(spaces)]
        trainer = _trainer(built, plan, directory, told, [*callbacks, *kept])
        trainer.lock = lock
        measuring = Measuring(finished, signals)
        with _collecting(finished, trainer, plan) as source, measuring.now_and_then() as evaluation:
            trainer.add_callback(evaluation)
            trainer.train(source, resume_from=directory if found else None)
            finished.status = trainer.status
            built.eval()
        if trainer.status == "finished":
            with using(trainer.config.threads):
                _conclude(finished, trainer, measuring)
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
        eval_interval=0,  # these count environment steps here, by callbacks of their own
        save_interval=0,
        keep_checkpoints=KEEP_CHECKPOINTS,
        output_dir=str(directory),
    )
    choices = {"asked": sorted(told), "resolved": resolved(plan, model, config.resolve_device())}
    watching = [ProgressCallback(), *callbacks, CheckpointCallback(env_steps=settings.save_every)]
    trainer = Trainer(model, config, watching, run_info={**settings.to_dict(), **choices})
    env = named_again(settings.env, settings.env_options)
    trainer.way_back = f"worldflux.experiment.resume_run({str(directory)!r}{env})"
    return trainer


@contextlib.contextmanager
def _collecting(run: Run, trainer: Trainer, plan: Plan) -> Iterator[EnvironmentSource]:
    """Give the environments and their replay as a source, and close them in the end."""
    collect = run.settings.collect
    collect = replace(collect, given=collect.names())  # all of it was chosen
    steps = plan.settings.steps or 0
    limits = {"patience": min(steps, 10_000), "step_limit": max(steps, plan.warmup)}  # episodes may be short
    with closing(run.make_env(num_envs=collect.num_envs, seed=run.settings.training.seed)) as env:
        settings, name = run.settings, run.settings.policy or "own"
        seed = settings.training.seed if name == "random" else None  # the others draw as the model does
        policy = make_policy(trainer.model, name, options=settings.policy_options, seed=seed)
        yield environment_source(trainer.model, env, training=trainer.config, collect=collect, policy=policy, **limits)


def _conclude(run: Run, trainer: Trainer, measuring: Measuring) -> None:
    """Evaluate a finished run beside the random policy, and draw the learning curve."""
    try:
        run.evaluation = measuring.conclude(trainer)
    except Interrupted as signal:
        run.status = "preempted"
        trainer.note(status=run.status, stop_reason=str(signal))
        logger.warning("%s: stopped before the last evaluation; go on with %s", signal, trainer.way_back)
        return
    try:
        run.save_learning_curve(random_mean=run.evaluation.random.mean)
    except ConfigurationError as error:  # a picture is not worth failing a training for
        logger.warning("no learning curve: %s", error)


def _warn_of_few_steps(plan: Plan) -> None:
    if (plan.settings.steps or 0) < plan.warmup:
        logger.warning(
            "%d environment steps end before the first update: %d are collected first, and one update is all; raise "
            "steps, or lower what comes first (a model's seed_steps, or the batch)", plan.settings.steps, plan.warmup,
        )  # fmt: skip
