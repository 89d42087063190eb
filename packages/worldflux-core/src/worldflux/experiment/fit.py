"""From a model's name and an environment, or recorded data, to a trained, measured and saved model."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from worldflux.agent import Spaces, spaces_of, write_spaces
from worldflux.core.errors import ConfigurationError
from worldflux.core.model import WorldModel
from worldflux.data import BatchProviderV2, Dataset
from worldflux.data.bounds import known_together, space_bounds
from worldflux.data.replay import fill_replay
from worldflux.envs.closing import closing
from worldflux.envs.identity import Fresh
from worldflux.files import expanded
from worldflux.training import Callback, CheckpointCallback, ProgressCallback, Trainer, environment_source
from worldflux.training.checkpoint import checkpoints
from worldflux.training.collect import check_environment
from worldflux.training.lock import RunLock
from worldflux.training.signals import Interrupted, StopSignals
from worldflux.training.threads import using
from worldflux.words.counts import counted

from .actors import make_policy
from .building import create_model, options_before, starting_point, take_weights
from .ended import already_finished
from .environment import FACTORY, Env, closed_to_imports, env_name, named_again, stored_env
from .experience import Data, Experience, names_of
from .lineage import bounds_before, warn_of_learned
from .measuring import Measuring
from .run import Run
from .settings import Plan, Settings, make_plan, read_asked, read_settings, resolved
from .watching import monitors

logger = logging.getLogger(__name__)

KEEP_CHECKPOINTS = 2  # each holds the replay


def fit(
    model: str | None = None,
    *,
    env: Env | None = None,
    data: Data | Sequence[Data] | None = None,
    eval_env: Env | None = None,
    start_from: str | Path | None = None,
    run: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> Run:
    """Train ``model`` in ``env``, from ``data`` or both, evaluate it, save everything, and return the run.

    Args:
        model: a preset such as ``"dreamer:ci"``, an alias, or the folder of a saved model; with ``start_from`` it may
            be left out.
        env: what ``make_env`` takes by name (``"CartPole-v1"``, ``"file.py:Class"``), or a callable that makes a new
            one at every call.
        data: recorded experience: a path, ``"FORMAT:PATH"``, a ``Dataset``, or a list of these. Alone it is all there
            is to learn from; with ``env`` its rows fill the replay before collecting begins.
        eval_env: where the policy is evaluated, and nothing collected.
        start_from: a run, or a saved model, whose newest weights the model starts from.
        run: the run's directory; by default ``runs/MODEL_ENV_SEED``.
        resume: go on from the newest whole checkpoint in ``run``, or begin anew what was stopped before its first.
        callbacks: beside those for progress, metrics, checkpoints, evaluation and a collapsing representation.
        options: the other fields of ``Settings`` (``steps=``, ``updates=``, ``seed=``, ``held_out=``, …).

    Raises:
        ConfigurationError: an unknown model, environment or option; ``run`` holds another run, or is trained in just
            now; fewer ``steps`` than a resumed run has taken; data that the model cannot learn from, or that is not
            what a resumed run learned from.
        CheckpointError: nothing to resume from, or something cannot be written.
        DatasetError: data is missing or damaged.
        TrainingError: the loss is not finite, or the environment failed.
    """
    asked, ready = _asked(model, env=env, data=data, eval_env=eval_env, start_from=start_from, options=options)
    acting = env if env is not None else eval_env
    acting = acting if acting is None or isinstance(acting, str) else Fresh(acting)
    told = set(asked)
    directory = expanded(run) if run is not None else default_directory(Settings.from_dict(asked))
    if directory.is_file():
        raise ConfigurationError(f"{directory} is a file, expected the directory of a run")
    if resume:
        stored = read_settings(directory)
        settings = Settings.from_dict({**stored.asked(), **asked}).resuming(stored)
        if (finished := already_finished(directory, settings, stored, env=acting)) is not None:
            return finished
        told |= read_asked(directory)
    else:
        settings = Settings.from_dict(asked)
    with RunLock(directory) as lock, StopSignals() as signals:
        found = checkpoints(directory / "checkpoints")
        if found and not resume:
            raise ConfigurationError(
                f"{directory} already holds a run; resume it (--resume, or resume=True), or choose another directory"
            )
        if resume and not found:
            logger.warning("%s was stopped before its first checkpoint: it begins anew", directory)
        experience = Experience.open(settings, ready) if settings.data else None
        if experience is not None and found:
            experience.check(directory)
        if experience is not None:
            warn_of_learned(settings, experience.sets)
        before = options_before(directory) if found else None
        built, spaces = _build(Run(directory, settings, env=acting), experience, before)
        _check_bounds(settings, experience, spaces)
        if not found:
            take_weights(built, settings)
        plan = make_plan(settings, built, recorded=0 if experience is None else experience.rows)
        _warn_of_few_steps(plan)
        facts: dict[str, Any] = {} if experience is None else {"data": experience.facts()}
        if settings.env is not None and spaces is not None and (bounds := space_bounds(spaces[1])) is not None:
            facts["action_bounds"] = bounds.to_dict()  # of what the replay will hold
        if experience is not None:
            experience = experience.fitted(built)
            experience.check_bounds(settings.acts_in)
            experience.check_length(plan.settings.sequence_length + built.context_rows, boundary=plan.settings.boundary)
        finished = Run(directory, plan.settings, env=acting, experience=experience, model=built, status="running")
        kept = [] if spaces is None else [_KeepSpaces(spaces)]
        watching = monitors(built, plan.settings, experience, given=callbacks)
        trainer = _trainer(built, plan, directory, told, [*callbacks, *kept, *watching], facts=facts)
        trainer.lock = lock
        measuring = Measuring(finished, signals, experience=experience)
        with _source(finished, trainer, plan, afresh=not found) as source, measuring.now_and_then() as evaluation:
            trainer.add_callback(evaluation)
            trainer.train(source, resume_from=directory if found else None)
            finished.status = trainer.status
            built.eval()
        if trainer.status == "finished":
            with using(trainer.config.threads):
                _conclude(finished, trainer, measuring)
        return finished


def _asked(
    model: str | None,
    *,
    env: Env | None,
    data: Data | Sequence[Data] | None,
    eval_env: Env | None,
    start_from: str | Path | None,
    options: Mapping[str, Any],
) -> tuple[dict[str, Any], list[Dataset | None]]:
    """What is asked for by the flat names of settings, and those of the datasets that are open already."""
    asked: dict[str, Any] = {} if model is None else {"model": model}
    asked |= {name: env_name(one) for name, one in (("env", env), ("eval_env", eval_env)) if one is not None}
    asked |= options
    ready: list[Dataset | None] = []
    if data is not None:
        asked["data"], ready = names_of(data)
    if start_from is not None:
        _, others = starting_point(start_from)
        asked["start_from"] = str(expanded(start_from).absolute())
        if model is None:
            own = {**others.get("model_options", {}), **asked.get("model_options", {})}
            asked = {**others, **asked, **({"model_options": own} if own else {})}
    if "model" not in asked:
        raise ConfigurationError("model is missing: name one, such as 'dreamer:ci', or start_from a run or saved model")
    return asked, ready


def resume_run(
    directory: str | Path, *, env: Env | None = None, data: Data | Sequence[Data] | None = None, **changes: Any
) -> Run:
    """Go on with the run in a directory; ``changes`` may set a new number of ``steps`` and the like.

    ``env`` is needed where the run's file cannot name it (see :meth:`Run.load`); ``data`` where that has moved.

    Raises:
        ConfigurationError: a change would make it another run.
        CheckpointError: nothing to resume from.
    """
    stored = read_settings(directory)
    acts = "env" if stored.env is not None else "eval_env"
    options = {"model": stored.model, acts: stored.acts_in, **changes}
    model, name = options.pop("model"), options.pop(acts)
    if data is not None:
        options["data"] = data
    if env is not None or name is None:
        named = {} if env is None else {acts: env}
        return fit(model, **named, run=directory, resume=True, **options)  # type: ignore[arg-type]
    unasked = {} if "env_options" in changes else stored.env_options
    with closed_to_imports(expanded(directory)):
        named = {acts: stored_env(name, unasked, place=expanded(directory))}
        return fit(model, **named, run=directory, resume=True, **options)  # type: ignore[arg-type]


def _build(
    run: Run, experience: Experience | None, before: Mapping[str, Any] | None
) -> tuple[WorldModel, Spaces | None]:
    """The model of a run as its environment, or else its data, needs it, and the environment's spaces."""
    settings = run.settings
    if settings.acts_in is None:
        assert experience is not None, "settings name data where they name no environment"
        return create_model(settings, experience, before=before), None
    with closing(run.make_env(seed=settings.seed)) as probe:
        shown = experience if settings.env is None and experience is not None else probe
        model = create_model(settings, shown, before=before)
        check_environment(model, probe)
        return model, spaces_of(probe)


def _check_bounds(settings: Settings, experience: Experience | None, spaces: Spaces | None) -> None:
    """Raise ConfigurationError if data, the run it starts from and the environment take other actions for -1 and 1."""
    sides = [bounds_before(settings)]
    if experience is not None:
        sides += [(one.name, one.whole.action_bounds) for one in experience.sets]
    if spaces is not None and any(bounds is not None for _, bounds in sides):
        sides.append((f"the environment {settings.acts_in}", space_bounds(spaces[1])))
    known_together(sides)


class _KeepSpaces(Callback):
    """Keeps the environment's spaces with the run, so that its model can act where the environment cannot be made."""

    def __init__(self, spaces: Spaces) -> None:
        self.spaces = spaces

    def on_train_begin(self, trainer: Trainer) -> None:
        write_spaces(trainer.run_dir, self.spaces)


def default_directory(settings: Settings) -> Path:
    """Return ``runs/MODEL_ENV_SEED``, of data alone ``runs/MODEL_DATA_SEED``, with awkward characters as dashes."""
    seen = Path(settings.data[0]).name if settings.env is None else settings.env.removesuffix(FACTORY)
    name = f"{Path(settings.model).name}_{seen}_{settings.seed}"
    return Path("runs") / "".join(c if c.isalnum() or c in "._-" else "-" for c in name)


def _trainer(
    model: WorldModel,
    plan: Plan,
    directory: Path,
    told: set[str],
    callbacks: Sequence[Callback],
    *,
    facts: Mapping[str, Any],
) -> Trainer:
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
    about = {**resolved(plan, model, config.resolve_device()), **facts}
    choices = {"asked": sorted(told), "resolved": about}
    every = settings.save_every
    saving = CheckpointCallback(every) if settings.env is None else CheckpointCallback(env_steps=every)
    watching = [ProgressCallback(), *callbacks, saving]
    trainer = Trainer(model, config, watching, run_info={**settings.to_dict(), **choices})
    env = "" if settings.acts_in is None else named_again(settings.acts_in, settings.env_options)
    trainer.way_back = f"worldflux.experiment.resume_run({str(directory)!r}{env})"
    return trainer


@contextlib.contextmanager
def _source(run: Run, trainer: Trainer, plan: Plan, *, afresh: bool) -> Iterator[BatchProviderV2]:
    """Give what the run learns from: the environments and their replay, closed in the end, or recorded data alone.

    A replay that begins ``afresh`` begins with the rows of the data, where there are both.
    """
    collect, experience, seed = run.settings.collect, run.settings.data and run.experience, run.settings.seed
    if run.settings.env is None:
        assert experience, "settings name data where they name no environment"
        yield experience.windows(boundary=collect.boundary, seed=seed)
        return
    collect = replace(collect, given=collect.names())  # all of it was chosen
    steps = plan.settings.steps or 0
    limits = {"patience": min(steps, 10_000), "step_limit": max(steps, plan.warmup)}  # episodes may be short
    with closing(run.make_env(num_envs=collect.num_envs, seed=run.settings.training.seed)) as env:
        settings, name = run.settings, run.settings.policy or "own"
        seed = settings.training.seed if name == "random" else None  # the others draw as the model does
        policy = make_policy(trainer.model, name, options=settings.policy_options, seed=seed)
        made = environment_source(trainer.model, env, training=trainer.config, collect=collect, policy=policy, **limits)
        if experience and afresh:
            fill_replay(made.replay, [one.training for one in experience.sets], latent_spec=policy.latent_spec)
        yield made


def _conclude(run: Run, trainer: Trainer, measuring: Measuring) -> None:
    """Measure a finished run, its policy beside the random one, and draw the learning curve."""
    try:
        run.evaluation, run.learned = measuring.conclude(trainer)
    except Interrupted as signal:
        run.status = "preempted"
        trainer.note(status=run.status, stop_reason=str(signal))
        logger.warning("%s: stopped before the last evaluation; go on with %s", signal, trainer.way_back)
        return
    try:
        run.save_learning_curve(random_mean=None if run.evaluation is None else run.evaluation.random.mean)
    except ConfigurationError as error:  # a picture is not worth failing a training for
        logger.warning("no learning curve: %s", error)


def _warn_of_few_steps(plan: Plan) -> None:
    if plan.settings.env is not None and (plan.settings.steps or 0) < plan.warmup:
        logger.warning(
            "%s before the first update: %d are collected first, and one update is all; raise "
            "steps, or lower what comes first (a model's seed_steps, or the batch)",
            counted(plan.settings.steps or 0, "environment step ends", "environment steps end"), plan.warmup,
        )  # fmt: skip
