"""Train a preset on a small environment for one seed, and keep what came of it in docs/results.

    python benchmarks/learning.py cartpole --seed 0
    python benchmarks/learning.py pendulum --seed 0
    python benchmarks/learning.py pendulum --model tdmpc2:ci --seed 0
    python benchmarks/learning.py pixels --seed 0

A case passes if its bar is met within its minutes of wall time, from building the model to the last update. ``curve``
holds the mean return of the episodes that ended in each tenth of the training, exploration included.
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
from worldflux.evals import read_metrics, series
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


def mean_return(bar: float) -> Callable[[Run], dict[str, Any]]:
    """Judge the mean return over 20 evaluation episodes."""

    def judge(run: Run) -> dict[str, Any]:
        assert run.evaluation is not None
        trained, random = run.evaluation.trained, run.evaluation.random
        return {
            "mean_return": trained.mean,
            **best_actions(run),
            "returns": trained.returns,
            "random_mean_return": random.mean,
            "passed": trained.mean >= bar,
        }

    return judge


def best_actions(run: Run) -> dict[str, float]:
    """The mean return without sampling, where the family's evaluation samples its actions."""
    assert run.evaluation is not None
    if not run.settings.eval_explore:
        return {}
    return {"mean_return_of_best_actions": run.evaluate(episodes=run.evaluation.trained.episodes, explore=False).mean}


def open_loop(run: Run) -> dict[str, Any]:
    """Judge reward and image after 15 imagined steps against copying the last frame, on pixels that changed."""
    errors = run.imagine(context=5, horizon=15, sequences=64).summary()
    name = next(name for name in errors if "changed_mse_at_15" in errors[name])
    image, reward = errors[name], errors["reward"]
    values = {f"image_{key}": image[key] for key in ("changed_mse_at_15", "copy_last_changed_mse_at_15")}
    values |= {f"reward_{key}": reward[key] for key in ("mae_at_15", "copy_last_mae_at_15")}
    better = values["image_changed_mse_at_15"] < values["image_copy_last_changed_mse_at_15"]
    return {**values, "passed": better and values["reward_mae_at_15"] < values["reward_copy_last_mae_at_15"]}


def pendulum(model: str, *, bar: float, minutes: float) -> Case:
    """Pendulum-v1 for a preset."""
    return Case(
        what=f"Mean return of {model} on Pendulum-v1 over 20 evaluation episodes after training on 2 cores",
        env="Pendulum-v1",
        minutes=minutes,
        bar=f"mean return >= {bar:g} within {minutes:g} minutes",
        judge=mean_return(bar),
    )


def dmc(task: str, *, steps: int) -> Case:
    """A task of dm_control for tdmpc2:1m, with plans and losses compiled."""
    return Case(
        what=f"Mean return of tdmpc2:1m on dmc:{task} over 10 evaluation episodes of 500 decisions",
        env=f"dmc:{task}",
        minutes=float("inf"),
        bar="mean return >= 900 within 25,000 decisions",
        judge=mean_return(900),
        options={
            "steps": steps,
            "replay_capacity": steps,
            "eval_episodes": 10,
            "save_every": 2500,
            "model_options": {"compiled": True, "plan_mixed_precision": True},
        },
    )


CASES = {
    ("cartpole", "dreamer:ci"): Case(
        what="Mean return of dreamer:ci on CartPole-v1 over 20 evaluation episodes after training on 2 cores",
        env="CartPole-v1",
        minutes=10,
        bar="mean return >= 400 within 10 minutes",
        judge=mean_return(400),
    ),
    ("pendulum", "dreamer:ci"): pendulum("dreamer:ci", bar=-300, minutes=15),
    ("pendulum", "tdmpc2:ci"): pendulum("tdmpc2:ci", bar=-200, minutes=10),
    ("pendulum", "planet:ci"): pendulum("planet:ci", bar=-300, minutes=15),
    ("pendulum", "mbpo:ci"): pendulum("mbpo:ci", bar=-200, minutes=10),
    ("dmc-cartpole-balance", "tdmpc2:1m"): dmc("cartpole-balance", steps=25_000),
    ("pixels", "dreamer:ci"): Case(
        what="Open-loop errors of dreamer:ci after 15 imagined steps on Pendulum-v1 rendered at 32 px, 64 sequences",
        env="Pendulum-v1",
        minutes=30,
        bar="image error on changed pixels and reward error below copying the last frame, 15 steps ahead",
        judge=open_loop,
        options={"render_size": 32},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=sorted({case for case, _ in CASES}))
    parser.add_argument("--model", default="dreamer:ci", choices=sorted({model for _, model in CASES}))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="environment steps, instead of the case's or the preset's")
    parser.add_argument("--run", type=Path, help="keep the run here instead of in a temporary directory")
    parser.add_argument("--resume", action="store_true", help="go on with the run kept there")
    asked = parser.parse_args()
    case = CASES.get((asked.case, asked.model))
    if case is None:
        parser.error(f"no such case; there are {', '.join(' --model '.join(known) for known in CASES)}")
    with tempfile.TemporaryDirectory() as scratch:
        result = learn(
            case, asked.model, asked.seed, asked.run or Path(scratch) / "run", steps=asked.steps, resume=asked.resume
        )
    file = record(
        f"learning-{asked.case}-{asked.model.replace(':', '-')}{f'-{asked.steps}-steps' if asked.steps else ''}",
        case=result,
        key="seed",
        what=case.what,
        command=f"OMP_NUM_THREADS={torch.get_num_threads()} python benchmarks/learning.py {asked.case} "
        f"--model {asked.model} --seed SEED{f' --steps {asked.steps}' if asked.steps else ''}",
        bar=case.bar,
        baseline="copying the last frame" if case.judge is open_loop else "the random policy, from the same starts",
    )
    print(f"{file}: {result}")


def learn(
    case: Case, model: str, seed: int, directory: Path, *, steps: int | None = None, resume: bool = False
) -> dict[str, Any]:
    """Train one seed and judge it."""
    began = time.perf_counter()
    options = {"eval_every": 0, "save_every": 0, **case.options, **({"steps": steps} if steps else {})}
    run = worldflux.fit(model, env=case.env, run=directory, seed=seed, resume=resume, **options)
    seconds = time.perf_counter() - began
    if resume:  # the trainer's clock goes on where it stopped
        seconds = read_metrics(run.directory / "metrics.jsonl")[-1]["time"]
    judged = case.judge(run)
    passed = judged.pop("passed") and seconds <= 60 * case.minutes
    took = {"seed": seed, "env_steps": run.settings.steps, "seconds": round(seconds, 1)}
    return {**took, **judged, "curve": curve(run), "passed": passed}


def curve(run: Run, parts: int = 10) -> list[dict[str, float]]:
    """Mean returns of the episodes that ended in each of so many equal parts of the training."""
    steps, returns = series(read_metrics(run.directory / "metrics.jsonl"), "episode/return")
    end = run.settings.steps / parts
    found = []
    for part in range(parts):
        among = [r for s, r in zip(steps, returns) if part * end < s <= (part + 1) * end]
        if among:
            found.append({"env_steps": (part + 1) * end, "return": sum(among) / len(among)})
    return found


if __name__ == "__main__":
    main()
