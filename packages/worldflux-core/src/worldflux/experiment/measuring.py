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

from .ended import evaluation_at
from .run import Evaluation, Run, eval_envs


class Measuring:
    """Evaluates the policy of a run in training, always on the same episodes, until a signal asks it to stop."""

    def __init__(self, run: Run, signals: StopSignals) -> None:
        self._run, self._signals = run, signals
        self._seed, self._episodes = run.eval_seed(None), run.settings.eval_episodes
        self._limit = run.settings.eval_max_steps

    @contextmanager
    def now_and_then(self) -> Iterator[EvalCallback]:
        """Give the callback that evaluates while training, in environments that are kept open."""
        settings = self._run.settings
        with self._environments() as env:

            def evaluate(trainer: Trainer) -> Mapping[str, float]:
                return record(self._measure(env, self._run.policy(trainer.model, seed=self._seed)))

            yield _NowAndThen(evaluate, env_steps=settings.eval_every, share=settings.eval_share)

    def conclude(self, trainer: Trainer) -> Evaluation:
        """Evaluate beside the random policy, and record it; ``evaluation.json`` is there only if it is complete.

        Raises Interrupted if a signal asks to stop before.
        """
        began = time.monotonic()
        with self._environments() as env:
            trained = self._measure(env, self._run.policy(trainer.model, seed=self._seed))
        with self._environments() as env:
            random = self._measure(env, RandomPolicy(env.action_spec, seed=self._seed), explore=True)
        seconds, reason = time.monotonic() - began, trainer.stop_reason
        trainer.eval_seconds += seconds
        trainer.log({**record(trained), "eval/seconds": round(seconds, 3)})
        trainer.stop_reason = reason  # it has ended: whoever would stop it for these numbers comes late
        evaluation = Evaluation(trained, random)
        write_json(self._run.directory / "evaluation.json", {**evaluation.to_dict(), "step": trainer.step})
        trainer.note()
        return evaluation

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
        ended = evaluation_at(trainer.run_dir, trainer.step)
        if ended is None or trainer.step >= trainer.target:
            return
        told = record(ended.trained)  # the run goes on from there, and that end was recorded after its checkpoint
        if not _recorded(trainer, told):
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
