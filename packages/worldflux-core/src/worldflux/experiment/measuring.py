"""A run's own evaluations: now and then, and the one at its end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from worldflux.core.policy import Policy
from worldflux.envs import RandomPolicy, VectorEnv
from worldflux.evals import EvalResult, evaluate_policy
from worldflux.evals.policy import LONG, MAX_EPISODE_STEPS
from worldflux.files import opened, parse_json, write_json
from worldflux.training import EvalCallback, Trainer
from worldflux.training.signals import StopSignals

from .ended import evaluation_at, learned_at
from .experience import Experience
from .numbers import eval_envs
from .results import Evaluation, Learned
from .run import Run

HELD_OUT_BATCHES = 10  # of held-out windows, in one evaluation


class Measuring:
    """Evaluates a run in training until a signal asks it to stop: its policy, always on the same episodes, where it
    names an environment, and its losses on the same windows of the data that is held out, where some is."""

    def __init__(self, run: Run, signals: StopSignals, *, experience: Experience | None = None) -> None:
        self._run, self._signals, self._experience = run, signals, experience
        self._seed, self._episodes = run.eval_seed(None), run.settings.eval_episodes
        self._limit = run.settings.eval_max_steps

    @contextmanager
    def now_and_then(self) -> Iterator[EvalCallback]:
        """Give the callback that evaluates while training, in environments that are kept open."""
        settings, acts = self._run.settings, self._run.settings.acts_in is not None
        with self._environments() if acts else contextlib.nullcontext() as env:

            def evaluate(trainer: Trainer) -> Mapping[str, float]:
                found = self._losses(trainer)
                if env is not None:
                    found |= record(self._measure(env, self._run.policy(trainer.model, seed=self._seed)))
                return found

            every = {"interval" if settings.env is None else "env_steps": settings.eval_every}
            yield _NowAndThen(evaluate, share=settings.eval_share, **every)  # type: ignore[arg-type]

    def conclude(self, trainer: Trainer) -> tuple[Evaluation | None, Learned | None]:
        """Evaluate as far as there is something to evaluate with, the policy beside the random one, and record it.

        The files are there only if they are complete. Raises Interrupted if a signal asks to stop before.
        """
        began, evaluation, learned = time.monotonic(), None, None
        with trainer.evaluating():
            losses = self._losses(trainer)
        if self._run.settings.acts_in is not None:
            with self._environments() as env:
                trained = self._measure(env, self._run.policy(trainer.model, seed=self._seed))
            with self._environments() as env:
                random = self._measure(env, RandomPolicy(env.action_spec, seed=self._seed), explore=True)
            evaluation = Evaluation(trained, random)
        seconds, reason = time.monotonic() - began, trainer.stop_reason
        trainer.eval_seconds += seconds
        told = {f"eval/{name}": value for name, value in losses.items()}
        if told or evaluation is not None:
            policy = {} if evaluation is None else record(evaluation.trained)
            trainer.log({**told, **policy, "eval/seconds": round(seconds, 3)})
        trainer.stop_reason = reason  # it has ended: whoever would stop it for these numbers comes late
        if evaluation is not None:
            self._keep("evaluation.json", evaluation.to_dict(), trainer)
        if losses and self._experience is not None:
            named = {name: value for name, value in losses.items() if name.partition("/")[0] == "loss"}
            learned = Learned(named, self._experience.held_out_episodes, self._experience.mean_return())
            self._keep("held_out.json", learned.to_dict(), trainer)
        trainer.note()
        return evaluation, learned

    def _keep(self, name: str, values: Mapping[str, Any], trainer: Trainer) -> None:
        write_json(self._run.directory / name, {**values, "step": trainer.step})

    def _losses(self, trainer: Trainer) -> dict[str, float]:
        """Losses and metrics on held-out windows, the same ones every time."""
        if self._experience is None:
            return {}
        windows = self._experience.held_out_windows(boundary=self._run.settings.boundary, seed=self._seed)
        return {} if windows is None else trainer.evaluate(windows, HELD_OUT_BATCHES)

    def _environments(self) -> Any:
        return self._run.opened(num_envs=eval_envs(self._episodes), seed=self._seed)

    def _measure(self, env: VectorEnv, policy: Policy, *, explore: bool | None = None) -> EvalResult:
        result = evaluate_policy(
            env,
            policy,
            episodes=self._episodes,
            explore=bool(self._run.settings.eval_explore) if explore is None else explore,
            seed=self._seed,
            max_episode_steps=self._limit,
            between_steps=self._signals.check,
        )
        if self._limit is None and (result.unfinished or max(result.lengths) >= LONG):
            self._limit = (
                getattr(env, "max_episode_steps", None) or MAX_EPISODE_STEPS
            )  # it was remarked on: once will do
        return result


class _NowAndThen(EvalCallback):
    """Evaluates but at the end, where the last evaluation is of the same episodes."""

    def on_train_begin(self, trainer: Trainer) -> None:
        super().on_train_begin(trainer)
        if trainer.step >= trainer.target:
            return
        ended, learned = evaluation_at(trainer.run_dir, trainer.step), learned_at(trainer.run_dir, trainer.step)
        # The run goes on from there, and that end was recorded after its checkpoint.
        told = {} if learned is None else {f"eval/{name}": value for name, value in learned.losses.items()}
        told |= {} if ended is None else record(ended.trained)
        if told and not _recorded(trainer, told):
            trainer.log(told)

    def affordable(self, trainer: Trainer) -> bool:
        """Whether an evaluation is to be made now."""
        return trainer.step < trainer.target and not trainer.stop_reason and super().affordable(trainer)


def _recorded(trainer: Trainer, told: Mapping[str, float]) -> bool:
    """Whether the line is still there: earlier versions did not count theirs, so that it was not dropped."""
    with contextlib.suppress(OSError, ValueError), opened(trainer.run_dir / "metrics.jsonl") as file:
        lines = [parse_json(line) for line in file if b'"eval/' in line]
        return any(line.get("step") == trainer.step and told.items() <= line.items() for line in lines)
    return False


def record(result: EvalResult) -> dict[str, float]:
    """Return what is logged of an evaluation: of complete episodes, and of those that were cut, where there are any."""
    found: dict[str, float] = {}
    if result.returns:
        found |= {
            "eval/return": result.mean,
            "eval/return_std": result.std,
            "eval/return_min": result.min,
            "eval/return_max": result.max,
            "eval/length": result.mean_length,
        }
    if result.unfinished:
        found |= {"eval/unfinished": result.unfinished, "eval/cut_return": result.cut_mean}
    return found
