"""A run's directory, opened: evaluate its policy, plan with its model, see what it imagines, draw its curve."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from worldflux.agent import Agent, read_spaces, spaces_of
from worldflux.core.errors import CapabilityError, ConfigurationError
from worldflux.core.model import WorldModel
from worldflux.core.persistence import META
from worldflux.core.policy import Policy
from worldflux.core.trajectory import Trajectory
from worldflux.data import Dataset
from worldflux.data.matching import matched
from worldflux.envs import RandomPolicy, VectorEnv, make_env
from worldflux.envs.closing import closing
from worldflux.envs.identity import already_made
from worldflux.evals import (
    EvalResult,
    Imagination,
    evaluate_policy,
    imagine,
    random_baseline,
    record_segments,
    save_animation,
    save_learning_curve,
)
from worldflux.files import expanded, write_json
from worldflux.planners import Objective, Planner, PlannerPolicy, make_planner
from worldflux.saved import load_weights
from worldflux.training import find_checkpoint
from worldflux.training.collect import check_environment
from worldflux.words.counts import counted

from .actors import choose_policy, make_policy
from .building import create_model, options_before
from .environment import Env, closed_to_imports, env_name, stored_env
from .experience import Data, Experience, names_of
from .numbers import MAX_EVAL_ENVS, eval_envs, whole
from .results import Evaluation, Learned
from .settings import Settings, model_settings, read_json, read_settings, saved_model

EVAL_SEED = 10_000  # added to the run's seed, so that no evaluation repeats the episodes trained on


class Run:
    """A directory with a trained model.

    ``settings`` is what it was asked for; ``status`` is how its training ended ("finished", "preempted", …);
    ``evaluation`` is what ``fit`` measured of its policy at its end, None before that and where no environment is
    named; ``learned`` is what it measured on held-out data, None where none is held out.
    """

    def __init__(
        self,
        directory: str | Path,
        settings: Settings,
        *,
        env: Env | None = None,
        env_options: Mapping[str, Any] | None = None,
        experience: Experience | None = None,
        model: WorldModel | None = None,
        status: str = "finished",
    ) -> None:
        self.directory, self.settings, self.status = expanded(directory), settings, status
        self.evaluation: Evaluation | None = None
        self.learned: Learned | None = None
        self._env, self._env_options, self._model, self._experience = env, env_options, model, experience

    @classmethod
    def load(
        cls,
        directory: str | Path,
        *,
        env: Env | None = None,
        env_options: Mapping[str, Any] | None = None,
        data: Data | Sequence[Data] | None = None,
        image_size: int | None = None,
        render_size: int | None = None,
        frame_stack: int | None = None,
    ) -> Run:
        """Open the run in a directory, or a saved model, or what a ``Trainer`` wrote.

        The last two need ``env``, the environment to act in, or ``data``, the recorded data to be measured on; a run
        that learned from data may be told where that is now.

        The file of a run may name an environment that is registered where it is opened, and no more. ``env`` names the
        others: ``"module:Name"``, ``"file.py:Class"``, or what makes them; then the run's own options go to it, unless
        ``env_options`` are given. A saved model does not know how its environment was seen: ``image_size``,
        ``render_size`` and ``frame_stack`` say so; a run and a Trainer's directory have their own.

        Raises:
            CheckpointError: there is no run.
        """
        if env is not None and not isinstance(env, str) and env_options is None:
            env_options = {}  # what makes an environment sets its own
        seen = {"image_size": image_size, "render_size": render_size, "frame_stack": frame_stack}
        saved = saved_model(expanded(directory))
        about: dict[str, Any] = {} if env is None else {"env": env_name(env, made=True)}
        if data is not None:
            about["data"], ready = names_of(data)
        if saved is not None and about:
            settings = model_settings(expanded(directory), saved, seen=seen, **about, held_out=0.0)
            run = cls(directory, settings, env=env, env_options=env_options, status="saved")
            if data is not None:
                run._experience = Experience.open(settings, ready)
            return run
        settings = read_settings(directory)
        if told := [name for name, size in seen.items() if size is not None]:
            raise ConfigurationError(f"{told[0]} is for saved models: the run {directory} has its own, leave it out")
        manifest = read_json(expanded(directory) / "run_manifest.json")
        status = str(manifest.get("status", "unknown"))
        run = cls(directory, settings, env=env, env_options=env_options, status=status)
        if data is not None:
            run.settings = replace(settings, data=about["data"])
            run._experience = Experience.open(run.settings, ready)
            run._experience.check(run.directory)
        run.evaluation = Evaluation.read(run.directory / "evaluation.json", step=manifest.get("step"))
        run.learned = Learned.read(run.directory / "held_out.json", step=manifest.get("step"))
        return run

    def __repr__(self) -> str:
        told = [self.settings.about, self.status]
        if self.settings.steps:
            told.append(f"{counted(self.settings.steps, 'step')} asked for")
        if self.settings.updates:
            told.append(f"{counted(self.settings.updates, 'update')} asked for")
        if self.learned is not None:
            told.append(f"loss {self.learned.losses['loss']:.4g} on held-out data")
        if self.evaluation is not None:
            trained, random = self.evaluation.trained.mean, self.evaluation.random.mean
            told.append(f"return {trained:.2f} (random {random:.2f})")
        return f"Run({str(self.directory)!r}: {', '.join(told)})"

    @property
    def weights(self) -> Path:
        """Where the newest weights are: the saved model of a finished run, else its newest whole checkpoint."""
        if self.status == "saved":
            return Path(self.settings.model)
        saved = self.directory / "model"
        return saved if self.status == "finished" and saved.is_dir() else find_checkpoint(self.directory)

    @property
    def model(self) -> WorldModel:
        """The trained model, loaded when first asked for. Raises CheckpointError if it is missing or damaged."""
        if self._model is None:
            weights = self.weights
            if (weights / META).is_file():
                self._model = WorldModel.from_pretrained(weights)
            else:
                built = self._built()
                load_weights(built, weights / "model.safetensors")
                self._model = built.eval()
        return self._model

    def _built(self) -> WorldModel:
        if self.settings.env is None:
            return create_model(self.settings, self.experience, before=options_before(self.directory))
        with self.opened() as env:
            return create_model(self.settings, env)

    @property
    def acts_in(self) -> str:
        """The name of the environment it acts in: that it is opened with, else its own; "" where there is none."""
        return (self.settings.acts_in or "") if self._env is None else env_name(self._env, made=True)

    @property
    def env_options(self) -> Mapping[str, Any]:
        """What the environment it acts in is made with: the options it is opened with, else its own."""
        return self.settings.env_options if self._env_options is None else self._env_options

    @property
    def experience(self) -> Experience:
        """The recorded data of the run, opened when first asked for.

        Raises:
            ConfigurationError: it learned from no data, or what is there now is other data.
            DatasetError: it is missing or damaged.
        """
        if self._experience is None:
            if not self.settings.data:
                raise ConfigurationError(
                    f"{self.directory} learned from an environment and names no data: name a dataset, as in "
                    "worldflux eval RUN --data DIR"
                )
            experience = Experience.open(self.settings)
            experience.check(self.directory)
            self._experience = experience
        return self._experience

    def held_out(self, which: int = 0) -> Dataset:
        """Return the episodes the run never learned from, as its model observes them: of its first set of data.

        ``which`` names another of its sets, from 0. Of a saved model all of the data it is opened with is held out.

        Raises:
            ConfigurationError: it learned from no data, held none out, or has no such set.
        """
        sets = self.experience.sets
        if not 0 <= which < len(sets):
            raise ConfigurationError(
                f"which is {which!r}, but {self.directory} has {counted(len(sets), 'set')} of data, from 0"
            )
        part = sets[which].whole if self.status == "saved" else sets[which].held_out
        if part is None:
            raise ConfigurationError(
                f"{self.directory} held out nothing of {sets[which].name} (held_out 0): name other data, to measure "
                "it on"
            )
        return matched(part, self.model, frame_skip=self.settings.frame_skip, name=sets[which].name)

    def make_env(self, *, num_envs: int = 1, seed: int = 0, frame_skip: int | None = None) -> VectorEnv:
        """Return the run's environment; its actions are the model's, of ``frame_skip`` (the run's) steps each.

        Raises:
            ConfigurationError: only whoever opens the run can name it (see :meth:`load`), or it cannot be made.
        """
        settings, env = self.settings, self._env
        if env is None:
            if settings.acts_in is None:
                raise ConfigurationError(
                    f"{self.directory} learned from data and names no environment to act in: name one, as in "
                    f"Run.load({str(self.directory)!r}, env=NAME), or --env NAME in the command"
                )
            env = stored_env(
                settings.acts_in, self.env_options if self._env_options is None else {}, place=self.directory
            )
        return make_env(
            env,
            num_envs=num_envs,
            seed=seed,
            image_size=settings.image_size,
            render_size=settings.render_size,
            frame_stack=settings.frame_stack,
            frame_skip=frame_skip or settings.frame_skip,
            env_options=self.env_options or None,
        )

    def agent(self, *, explore: bool | None = None, seed: int | None = None, policy: Policy | None = None) -> Agent:
        """Return what acts in the run's environment: ``agent.act(obs)`` is the action ``env.step`` takes.

        Observations are as the environment gives them; pictures are resized and stacked as in training. The environment
        itself is not made: its spaces are kept with the run. ``explore`` (by default as the run is evaluated), ``seed``
        and ``policy`` are as in ``worldflux.agent.Agent``.

        Raises:
            CheckpointError: the model or the spaces are missing or damaged.
            CapabilityError: the model has no policy of its own, and none is given, or its action is several steps.
        """
        if (skip := self.settings.frame_skip) > 1:
            raise CapabilityError(
                f"an action of the run {self.directory} is {counted(skip, 'step')} in one, which no environment's step "
                f"takes: act with Run.policy in make_env(ENV, frame_skip={skip}), or evaluate it"
            )
        spaces = read_spaces(self.directory)
        if spaces is None:  # a run of an earlier version
            with self.opened() as env:
                spaces = spaces_of(env)
        if policy is None and self.settings.policy not in (None, "own"):
            policy = self.policy(self.model, seed=self.eval_seed(seed))
        return Agent(
            self.model,
            spaces,
            image_size=self.settings.image_size,
            render_size=self.settings.render_size,
            frame_stack=self.settings.frame_stack,
            explore=bool(self.settings.eval_explore) if explore is None else explore,
            seed=self.eval_seed(seed),
            policy=policy,
        )

    @contextlib.contextmanager
    def opened(self, *, num_envs: int = 1, seed: int = 0, frame_skip: int | None = None) -> Iterator[VectorEnv]:
        """Give the run's environment, and close it in the end unless it is the caller's."""
        with contextlib.ExitStack() as stack:
            if self._env is None:
                stack.enter_context(closed_to_imports(self.directory))
            env = self.make_env(num_envs=num_envs, seed=seed, frame_skip=frame_skip)
            if not already_made(self._env):
                stack.enter_context(closing(env))
            yield env

    def evaluate(
        self, *, episodes: int = 20, seed: int | None = None, explore: bool | None = None, policy: str | None = None
    ) -> EvalResult:
        """Return what the trained policy earns; the default seed is the run's + 10000, ``explore`` the run's own.

        ``policy`` lets another one act: "own" (the model's), "random", or a planner by its name.
        """
        seed = self.eval_seed(seed)
        explore = bool(self.settings.eval_explore) if explore is None else explore
        with self.opened(num_envs=eval_envs(episodes), seed=seed) as env:
            check_environment(self.model, env)
            actor = self.policy(self.model, policy, seed=seed)
            return self._measure(env, actor, episodes=episodes, explore=explore, seed=seed)

    def plan(
        self,
        planner: Planner | str = "cem",
        *,
        objective: Objective | Callable[[WorldModel, Trajectory], torch.Tensor] | None = None,
        episodes: int = 5,
        seed: int | None = None,
        explore: bool = False,
        execute: int = 1,
    ) -> EvalResult:
        """Return what planning with the model every ``execute`` steps earns, from the same starts as ``evaluate``.

        ``planner`` is a planner, or the name of one with its defaults; the default objective is predicted rewards.

        Raises:
            ConfigurationError: an unknown planner; or model, planner and objective do not fit.
        """
        planner = make_planner(planner) if isinstance(planner, str) else planner
        seed = self.eval_seed(seed)
        generator = torch.Generator(_device(self.model)).manual_seed(seed)
        policy = PlannerPolicy(self.model, planner, objective, generator=generator, execute=execute)
        with self.opened(num_envs=eval_envs(episodes), seed=seed) as env:
            check_environment(self.model, env)
            return self._measure(env, policy, episodes=episodes, explore=explore, seed=seed)

    def _measure(self, env: VectorEnv, policy: Policy, **asked: Any) -> EvalResult:
        return evaluate_policy(env, policy, max_episode_steps=self.settings.eval_max_steps, **asked)

    def random_baseline(self, *, episodes: int = 20, seed: int | None = None) -> EvalResult:
        """Return what acting at random earns from the same starts."""
        seed = self.eval_seed(seed)
        with self.opened(num_envs=eval_envs(episodes), seed=seed) as env:
            return random_baseline(env, episodes=episodes, seed=seed, max_episode_steps=self.settings.eval_max_steps)

    def imagine(
        self,
        *,
        context: int = 5,
        horizon: int = 15,
        sequences: int = 16,
        seed: int | None = None,
        random_policy: bool = False,
    ) -> Imagination:
        """Return ``sequences`` open-loop predictions of ``horizon`` rows after ``context`` real ones.

        Raises:
            ConfigurationError: the episodes are shorter than context and horizon together.
        """
        seed, rows = self.eval_seed(seed), context + horizon
        with self.opened(num_envs=min(sequences, MAX_EVAL_ENVS), seed=seed) as env:
            random = RandomPolicy(env.action_spec, seed=seed) if random_policy else None
            check_environment(self.model, env)
            policy = random or self.policy(self.model, seed=seed)
            segments = record_segments(env, policy, sequences=sequences, rows=rows, explore=random_policy, seed=seed)
        return imagine(self.model, segments, context=context, library=segments)

    def save_imagination(self, result: Imagination, path: str | Path | None = None) -> tuple[Path, Path]:
        """Write an animation (default ``imagined.gif`` in the run) and, beside it, the numbers as JSON."""
        animation = save_animation(result, path or self.directory / "imagined.gif")
        numbers = animation.with_suffix(".json")
        write_json(numbers, result.to_dict())
        return animation, numbers

    def save_learning_curve(self, path: str | Path | None = None, *, random_mean: float | None = None) -> Path:
        """Draw the returns over environment steps (default ``learning_curve.png`` in the run).

        Of a run that collects nothing it is the returns over updates or, where it names no environment, the losses.
        """
        kind: dict[str, Any] = {}
        if self.settings.env is None:
            kind = {"x": "step", "recorded_mean": None if self.learned is None else self.learned.behaviour}
        if self.settings.acts_in is None:
            kind = {"x": "step", "collected": "loss", "evaluated": "eval/loss"}
        return save_learning_curve(
            self.directory / "metrics.jsonl",
            path or self.directory / "learning_curve.png",
            title=f"{self.settings.about}, seed {self.settings.seed}",
            random_mean=random_mean,
            **kind,
        )

    def policy(self, model: WorldModel, name: str | None = None, *, seed: int) -> Policy:
        """Return who acts in the run, or the policy called ``name``, with ``model`` as it is now."""
        options = self.settings.policy_options if name in (None, self.settings.policy) else {}
        return make_policy(model, choose_policy(model, name or self.settings.policy), options=options, seed=seed)

    def eval_seed(self, seed: int | None) -> int:
        """Return ``seed``, or the one evaluations take by default."""
        return self.settings.seed + EVAL_SEED if seed is None else whole("seed", seed, 0)


def _device(model: WorldModel) -> torch.device:
    return next(model.parameters()).device
