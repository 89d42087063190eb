"""Seconds per TD-MPC2 update and per plan, on the plain path and on faster ones, and how far their plans differ.

    python benchmarks/tdmpc2.py --size 1m
    python benchmarks/tdmpc2.py --size 5m --record

The plain path computes every critic in float32, operation by operation (``reference=True``), as the official program
does uncompiled. The others leave out the critics nobody asks, compute in bfloat16 where autocast deems it safe, are
compiled, or all of that. All are measured in turns, so that whatever else the machine does slows them alike; compiling
comes before.

Their plans are compared on the same observations with the same random numbers: how far the planned mean of the first
action is from the plain path's, and what the plain path thinks the action done is worth, against its own.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from record import record
from torch import Tensor

import worldflux
from worldflux.core.batch import Batch
from worldflux.planners import Problem
from worldflux.testing.learner import Learner
from worldflux_tdmpc import TDMPC2
from worldflux_tdmpc.tdmpc2 import PlanningPolicy

PATHS: dict[str, dict[str, bool]] = {  # what is built, and whether it computes in bfloat16
    "plain": {"reference": True},
    "two_heads": {},
    "bf16": {"bf16": True},
    "compiled": {"compiled": True},
    "compiled_bf16": {"compiled": True, "bf16": True},
}


@dataclass
class Path:
    """One way to compute: a model, its optimizer and a batch to learn from."""

    model: TDMPC2
    learner: Learner
    batch: Batch

    @classmethod
    def build(cls, args: argparse.Namespace, *, bf16: bool = False, **options: bool) -> Path:
        model = worldflux.create_world_model(
            f"tdmpc2:{args.size}", obs_shape=(args.obs,), action_dim=args.actions, plan_mixed_precision=bf16, **options
        )
        assert isinstance(model, TDMPC2)
        disturb(model)
        learner = Learner(model)
        learner.config = replace(learner.config, mixed_precision=bf16)
        return cls(model, learner, make_batch(model))

    def update(self) -> None:
        """What training does after sampling."""
        self.model.train()
        self.learner.step(self.batch)

    def plan(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """The actions ``[E, A]`` done for ``obs [E, O]``, and the plan's mean ``[E, H, A]``."""
        self.model.eval()
        policy = PlanningPolicy(self.model)
        first = torch.ones(len(obs), dtype=torch.bool)
        action, carry = policy({"obs": obs}, policy.initial(len(obs)), is_first=first, explore=False)
        return action, carry["plan.mean"]


def disturb(model: TDMPC2) -> None:
    """Move every weight at random: an untrained model predicts zeros, so that every plan is worth the same."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.03 * torch.randn(parameter.shape, generator=generator)
        model.target_critics.load_state_dict(model.critics.state_dict())
        model.updates += 1


def make_batch(model: TDMPC2) -> Batch:
    """A batch of noise in the shapes of a replay."""
    generator, config = torch.Generator().manual_seed(0), model.config
    size, rows = config.batch_size, config.horizon + 1
    flags = torch.zeros(size, rows, dtype=torch.bool)
    return Batch(
        obs={"obs": torch.randn(size, rows, *config.obs_shape, generator=generator)},
        actions=torch.rand(size, rows, config.action_dim, generator=generator) * 2 - 1,
        rewards=torch.rand(size, rows, generator=generator),
        is_first=flags, is_last=flags, is_terminal=flags,
    )  # fmt: skip


def in_turns(runs: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, float]]:
    """Seconds of each after two calls to warm up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    return {name: {"median_s": statistics.median(taken), "fastest_s": min(taken)} for name, taken in times.items()}


@torch.no_grad()
def differences(paths: Mapping[str, Path], observations: Tensor) -> dict[str, dict[str, float]]:
    """How far each path's plans are from the plain path's, over all ``observations``, each planned for alone."""
    plain, plans = paths["plain"], {}
    for name, path in paths.items():
        alone = [path.plan(row.unsqueeze(0)) for row in observations]
        plans[name] = torch.cat([action for action, _ in alone]), torch.cat([mean for _, mean in alone])
    own, spread = worth(plain, observations, plans["plain"][0])
    found = {}
    for name, (action, mean) in plans.items():
        off = (mean[:, 0] - plans["plain"][1][:, 0]).abs()
        value, _ = worth(plain, observations, action)
        found[name] = {
            "mean_difference_of_the_mean": float(off.mean()),
            "largest_difference_of_the_mean": float(off.max()),
            "same_action_within_1e-3": float((action - plans["plain"][0]).abs().amax(1).le(1e-3).float().mean()),
            "value_lost": float((own - value).mean() / spread),
        }
    return found


def worth(path: Path, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """What the model thinks ``actions [E, A]`` followed by its policy prior are worth, ``[E]``; and how much the worth
    of random actions varies: their standard deviation, a mean over observations."""
    policy = PlanningPolicy(path.model)
    state = path.model.encode({"obs": observations}, deterministic=True)
    generator = torch.Generator().manual_seed(0)
    tries = torch.rand(len(observations), 64, actions.shape[-1], generator=generator) * 2 - 1
    candidates = torch.cat([actions.unsqueeze(1), tries], 1)
    problem = Problem.of(path.model, state, policy.objective)
    several, _ = problem.repeated(candidates.shape[1])
    flat = candidates.flatten(0, 1)
    rest = path.model.transition(several, flat, deterministic=True)
    plan = [flat]
    for _ in range(path.model.config.horizon - 1):
        plan.append(path.model.act(rest, None))
        rest = path.model.transition(rest, plan[-1], deterministic=True)
    sequence = torch.stack(plan, 1).unflatten(0, candidates.shape[:2])
    heads = {"heads": torch.tensor([0, 1]), "action": torch.zeros_like(flat)}
    scores = problem.scorer(candidates.shape[1])(sequence, heads)
    return scores[:, 0], scores[:, 1:].std(1).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1m")
    parser.add_argument("--obs", type=int, default=24)
    parser.add_argument("--actions", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--observations", type=int, default=16, help="on which plans are compared")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--record", action="store_true", help="keep the result in docs/results")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(1)
    one, eight, many = (torch.randn(n, args.obs, generator=generator) for n in (1, 8, args.observations))
    paths = {name: Path.build(args, **options) for name, options in PATHS.items()}
    apart = differences(paths, many)
    plans = in_turns({name: lambda path=path: path.plan(one) for name, path in paths.items()}, args.repeats)
    fastest = paths["compiled_bf16"]
    batched = in_turns({"one": lambda: fastest.plan(one), "eight": lambda: fastest.plan(eight)}, args.repeats)
    updates = in_turns({name: path.update for name, path in paths.items()}, args.repeats)
    result = {
        "size": args.size,
        "plan": ratios(plans),
        "update": ratios(updates),
        "eight_environments_to_one": batched["eight"]["median_s"] / batched["one"]["median_s"],
        "plans": apart,
    }
    show(result)
    if args.record:
        record(
            "tdmpc2-speed",
            case=result,
            key="size",
            what="Seconds per TD-MPC2 update (batch 256) and per plan (512 candidates, 6 iterations) of one "
            f"environment, {args.obs} numbers in, {args.actions} actions; and how far the plans of faster paths differ",
            command=f"OMP_NUM_THREADS={torch.get_num_threads()} python benchmarks/tdmpc2.py --size SIZE --record",
            bar="a plan at 5m at least 2 times as fast as the plain path with actions equal, as 'compiled' is; a plan "
            "for 8 environments below 4 times the time of one",
        )


def ratios(times: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The times, and how many times as fast as the plain path each is."""
    plain = times["plain"]["median_s"]
    return {name: {**taken, "times_as_fast": plain / taken["median_s"]} for name, taken in times.items()}


def show(result: dict[str, Any]) -> None:
    """Print a table."""
    print(f"tdmpc2:{result['size']}, {torch.get_num_threads()} threads; seconds (times as fast as the plain path)")
    print(f"{'':<14} {'plan':>16} {'update':>16} {'mean action off':>16} {'value lost':>11}")
    for name in PATHS:
        plan, update = (
            f"{r[name]['median_s']:.3f} ({r[name]['times_as_fast']:.2f})" for r in (result["plan"], result["update"])
        )
        apart = result["plans"][name]
        off, lost = apart["mean_difference_of_the_mean"], apart["value_lost"]
        print(f"{name:<14} {plan:>16} {update:>16} {off:>16.1e} {lost:>11.1e}")
    print(f"a plan for 8 environments takes {result['eight_environments_to_one']:.2f} times as long as for one")


if __name__ == "__main__":
    main()
