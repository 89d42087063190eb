"""Learn from recorded episodes alone for one seed, and keep what came of it in docs/results.

    python benchmarks/offline.py cartpole --seed 0
    python benchmarks/offline.py pendulum --seed 0

First a policy is trained part of the way in the environment and its episodes are recorded (for CartPole with more of
the random policy); then a new model learns from the recording, of which a tenth of the episodes is held out.
The seed decides all of it: policy, recording, what is held out, model. ``seconds`` count the learning alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from record import record

import worldflux
from worldflux.cli.assignments import assignments
from worldflux.evals import Segments, imagine
from worldflux.experiment import Run, collect

CONTEXT, HORIZON, SEQUENCES = 5, 15, 512
ENVS = 10  # that are recorded in at once
EPISODES = 20  # of an evaluation


@dataclass(frozen=True)
class Case:
    """What is recorded, what learns from it, and what it must reach."""

    what: str
    env: str
    model: str
    half: int  # environment steps of the policy that makes the data
    episodes: int  # recorded with that policy
    random_episodes: int
    updates: int
    bar: str
    baseline: str
    judge: Callable[[Run, Run], dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)


def predicts(run: Run, half: Run) -> dict[str, Any]:
    """Judge every modality after 15 imagined steps of held-out episodes against copying and shuffled actions."""
    rows = CONTEXT + HORIZON
    batch = run.held_out().windows(rows, seed=run.settings.seed).sample(SEQUENCES)
    held_out = Segments(
        obs={name: value.numpy() for name, value in batch.obs.items()},
        actions=batch.actions.numpy(),
        rewards=batch.rewards.numpy(),
        is_terminal=batch.is_terminal.numpy(),
    )
    errors = imagine(run.model, held_out, context=CONTEXT).summary()
    names = ("mse", "copy_last_mse", "shuffled_actions_mse")
    found = {name: {key: errors[name][f"{key}_at_{HORIZON}"] for key in names} for name in held_out.obs}
    best = all(one["mse"] < min(one["copy_last_mse"], one["shuffled_actions_mse"]) for one in found.values())
    return {f"errors_at_{HORIZON}": found, "reward_mae": errors["reward"][f"mae_at_{HORIZON}"], "passed": best}


def earns(run: Run, half: Run) -> dict[str, Any]:
    """Judge the mean return against that of the recorded episodes, and of the policy that made them."""
    assert run.evaluation is not None
    assert run.learned is not None
    assert run.learned.behaviour is not None
    made = half.evaluate(episodes=run.evaluation.trained.episodes, explore=True).mean
    trained = run.evaluation.trained
    return {
        "mean_return": trained.mean,
        "returns": trained.returns,
        "recorded_mean_return": run.learned.behaviour,
        "recording_policy_mean_return": made,
        "random_mean_return": run.evaluation.random.mean,
        "passed": trained.mean > max(made, run.learned.behaviour),
    }


CASES = {
    "cartpole": Case(
        what="Open-loop errors of dreamer:ci after 15 imagined steps of held-out CartPole-v1 episodes, learned offline",
        env="CartPole-v1",
        model="dreamer:ci",
        half=1_000,
        episodes=200,
        random_episodes=200,
        updates=4_000,
        bar="error below copy-last and below shuffled actions on every modality, 15 steps ahead",
        baseline="copying the last row; the actions of another sequence",
        judge=predicts,
        options={"model_options": {"actor_critic": False}},
    ),
    "pendulum": Case(
        what="Mean return of tdmpc2:ci on Pendulum-v1 over 20 evaluation episodes, learned offline",
        env="Pendulum-v1",
        model="tdmpc2:ci",
        half=1_100,
        episodes=100,
        random_episodes=0,
        updates=6_000,
        bar="mean return above that of the recorded episodes and of the policy that made them",
        baseline="the half-trained policy that was recorded",
        judge=earns,
        options={"eval_env": "Pendulum-v1"},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=sorted(CASES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="keep the recording and both runs here; a recording there is taken")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an option of the model")
    parser.add_argument("--unrecorded", action="store_true", help="only print what came of it, as in trying options")
    asked = parser.parse_args()
    case = CASES[asked.case]
    if asked.set and not asked.unrecorded:
        parser.error("--set tries options out: what is recorded has the case's own, so add --unrecorded")
    own = case.options.get("model_options", {})
    case = replace(case, options={**case.options, "model_options": {**own, **assignments(asked.set)}})
    with tempfile.TemporaryDirectory() as scratch:
        result = learn(case, asked.seed, asked.keep or Path(scratch))
    if asked.unrecorded:
        print(result)
        return
    file = record(
        f"offline-{asked.case}-{case.model.replace(':', '-')}",
        case=result,
        key="seed",
        what=case.what,
        command=f"OMP_NUM_THREADS={torch.get_num_threads()} python benchmarks/offline.py {asked.case} --seed SEED",
        bar=case.bar,
        baseline=case.baseline,
    )
    print(f"{file}: {result}")


def learn(case: Case, seed: int, folder: Path) -> dict[str, Any]:
    """Record, learn from the recording, and judge."""
    few = {"eval_every": 0, "save_every": 0, "eval_episodes": EPISODES}
    recording = folder / "set"
    if recording.is_dir():
        half = Run.load(folder / "half")
    else:
        half = worldflux.fit(case.model, env=case.env, run=folder / "half", seed=seed, steps=case.half, **few)
        record_set(case, half, recording, seed=seed)
    began = time.perf_counter()
    run = worldflux.fit(
        case.model, data=recording, run=folder / "run", seed=seed, updates=case.updates, **{**few, **case.options}
    )
    seconds = round(time.perf_counter() - began, 1)
    assert run.learned is not None
    about = {"recorded_rows": len(run.experience.sets[0].whole), "held_out_loss": run.learned.losses["loss"]}
    return {"seed": seed, "updates": case.updates, "seconds": seconds, **about, **case.judge(run, half)}


def record_set(case: Case, half: Run, path: Path, *, seed: int) -> Path:
    """Record episodes of the policy as it explores, then of the random one."""
    how: dict[str, Any] = {"num_envs": ENVS, "seed": seed + 1000}
    collect(path, episodes=case.episodes, policy=half.directory, **how)
    if case.random_episodes:
        collect(path, episodes=case.episodes + case.random_episodes, env=case.env, policy="random", **how)
    return path


if __name__ == "__main__":
    main()
