"""Train a preset on a small environment for one seed, and keep what came of it in docs/results.

    python benchmarks/learning.py cartpole --seed 0
    python benchmarks/learning.py pendulum --seed 0
    python benchmarks/learning.py pixels --seed 0

A case passes if its bar is met within its minutes of wall time, from building the model to the last update.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from record import record

import worldflux
from worldflux.experiment import Run


@dataclass(frozen=True)
class Case:
    """What is trained, and what it must reach."""

    what: str
    env: str
    minutes: float
    bar: str
    judge: Callable[[Run], dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)
    model: str = "dreamer:ci"


def mean_return(bar: float) -> Callable[[Run], dict[str, Any]]:
    """Judge the mean return over 20 evaluation episodes."""

    def judge(run: Run) -> dict[str, Any]:
        assert run.evaluation is not None
        trained, random = run.evaluation.trained, run.evaluation.random
        return {
            "mean_return": trained.mean,
            "mean_return_of_best_actions": run.evaluate(episodes=trained.episodes, explore=False).mean,
            "returns": trained.returns,
            "random_mean_return": random.mean,
            "passed": trained.mean >= bar,
        }

    return judge


def open_loop(run: Run) -> dict[str, Any]:
    """Judge reward and image after 15 imagined steps against copying the last frame, on pixels that changed."""
    errors = run.imagine(context=5, horizon=15, sequences=64).summary()
    name = next(name for name in errors if "changed_mse_at_15" in errors[name])
    image, reward = errors[name], errors["reward"]
    values = {f"image_{key}": image[key] for key in ("changed_mse_at_15", "copy_last_changed_mse_at_15")}
    values |= {f"reward_{key}": reward[key] for key in ("mae_at_15", "copy_last_mae_at_15")}
    better = values["image_changed_mse_at_15"] < values["image_copy_last_changed_mse_at_15"]
    return {**values, "passed": better and values["reward_mae_at_15"] < values["reward_copy_last_mae_at_15"]}


CASES = {
    "cartpole": Case(
        what="Mean return of dreamer:ci on CartPole-v1 over 20 evaluation episodes after training on 2 cores",
        env="CartPole-v1",
        minutes=10,
        bar="mean return >= 400 within 10 minutes",
        judge=mean_return(400),
    ),
    "pendulum": Case(
        what="Mean return of dreamer:ci on Pendulum-v1 over 20 evaluation episodes after training on 2 cores",
        env="Pendulum-v1",
        minutes=15,
        bar="mean return >= -300 within 15 minutes",
        judge=mean_return(-300),
    ),
    "pixels": Case(
        what="Open-loop errors of dreamer:ci after 15 imagined steps on Pendulum-v1 rendered at 32 px, 64 sequences",
        env="Pendulum-v1",
        minutes=30,
        bar="image error on changed pixels and reward error below copying the last frame, 15 steps ahead",
        judge=open_loop,
        options={"image_size": 32},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=list(CASES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, help="keep the run here instead of in a temporary directory")
    asked = parser.parse_args()
    case = CASES[asked.case]
    with tempfile.TemporaryDirectory() as scratch:
        result = learn(case, asked.seed, asked.run or Path(scratch) / "run")
    file = record(
        f"learning-{asked.case}-{case.model.replace(':', '-')}",
        case=result,
        key="seed",
        what=case.what,
        command=f"OMP_NUM_THREADS={torch.get_num_threads()} python benchmarks/learning.py {asked.case} --seed SEED",
        bar=case.bar,
        baseline="copying the last frame" if case.judge is open_loop else "the random policy, from the same starts",
    )
    print(f"{file}: {result}")


def learn(case: Case, seed: int, directory: Path) -> dict[str, Any]:
    """Train one seed and judge it."""
    began = time.perf_counter()
    options = {"eval_every": 0, "save_every": 0, **case.options}
    run = worldflux.fit(case.model, env=case.env, run=directory, seed=seed, **options)
    seconds = time.perf_counter() - began
    judged = case.judge(run)
    passed = judged.pop("passed") and seconds <= 60 * case.minutes
    return {"seed": seed, "env_steps": run.settings.steps, "seconds": round(seconds, 1), **judged, "passed": passed}


if __name__ == "__main__":
    main()
