"""How much slower or faster one version of worldflux is than another: updates, plans and collecting, timed in turns.

    python benchmarks/before_after.py --before OLD/bin/python --after NEW/bin/python

Each interpreter has its own version installed and serves the cases from a process of its own; the two take turns, so
that whatever else the machine does slows both alike. A ratio above 1 means that the second one takes longer. Only
public names are used, so that versions far apart can be compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

UPDATES = {"dreamerv3:size1m": (16, 64), "tdmpc2:1m": (256, 4), "planet:ci": (16, 16), "mbpo:ci": (64, 2)}
ACTING = ("dreamerv3:size1m", "tdmpc2:1m", "planet:ci", "mbpo:ci")
OBS, ACTIONS = 24, 6
TURN = 0.1  # seconds that a turn of acting or collecting lasts at least: after a switch of processes caches are cold


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", help="the interpreter of the first version")
    parser.add_argument("--after", default=sys.executable, help="that of the second; default: this one")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cases", nargs="*", help="only these")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--record", action="store_true", help="keep the result in docs/results")
    args = parser.parse_args()
    if args.serve:
        serve()
        return
    workers = {name: Worker(getattr(args, name)) for name in ("before", "after")}
    results = {}
    for case in args.cases or [
        *(f"update {model}" for model in UPDATES),
        *(f"act {model}" for model in ACTING),
        *COLLECT,
    ]:
        times: dict[str, list[float]] = {name: [] for name in workers}
        for worker in workers.values():
            worker.ask(case)  # warms up
        for turn in range(args.rounds):
            for name in list(workers)[:: 1 if turn % 2 else -1]:
                times[name].append(workers[name].ask(case))
        pairs = [after / before for before, after in zip(times["before"], times["after"])]
        results[case] = {
            **{f"{name}_ms": round(statistics.median(taken) * 1e3, 3) for name, taken in times.items()},
            "ratio_of_fastest": round(min(times["after"]) / min(times["before"]), 4),
            "median_ratio": round(statistics.median(pairs), 4),
        }
        print(f"{case:<28} {json.dumps(results[case])}", flush=True)
    if args.record:
        from record import record

        for case, result in results.items():
            record(
                "before-after",
                case={"case": case, **result, "versions_compared": {n: w.version for n, w in workers.items()}},
                key="case",
                what="Milliseconds per update, per acting step and per collected row of two versions, timed in turns",
                command="OMP_NUM_THREADS=N python benchmarks/before_after.py --before OLD --after NEW --record",
                bar="median ratio at most 1.03",
            )


class Worker:
    """A version of worldflux in a process of its own."""

    def __init__(self, python: str) -> None:
        self.process = subprocess.Popen(
            [python, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.version = self._read()["version"]

    def ask(self, case: str) -> float:
        """Seconds that one turn of a case took, per update, step or row."""
        assert self.process.stdin is not None
        self.process.stdin.write(case + "\n")
        self.process.stdin.flush()
        return float(self._read()["seconds"])

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise SystemExit("a version stopped: see its message above")


def serve() -> None:
    """Answer cases with seconds, one line each."""
    import importlib.metadata

    turns: dict[str, Iterator[float]] = {}
    print(json.dumps({"version": importlib.metadata.version("worldflux-core")}), flush=True)
    for line in sys.stdin:
        case = line.strip()
        if case not in turns:
            kind, _, model = case.partition(" ")
            turns[case] = {"update": updates, "act": acting, "collect": collecting}[kind](model)
        print(json.dumps({"seconds": next(turns[case])}), flush=True)


def build(model: str) -> Any:
    import worldflux

    return worldflux.create_world_model(model, obs_shape=(OBS,), action_dim=ACTIONS)


def updates(model: str, steps: int = 3) -> Iterator[float]:
    """Seconds per update as the trainer makes it, sampling left out."""
    import torch

    from worldflux import Batch, Trainer, TrainingConfig
    from worldflux.training import Callback

    size, rows = UPDATES[model]
    built = build(model)
    rows += built.context_rows
    generator, flags = torch.Generator().manual_seed(0), torch.zeros(size, rows, dtype=torch.bool)
    batch = Batch(
        obs={"obs": torch.randn(size, rows, OBS, generator=generator)},
        actions=torch.rand(size, rows, ACTIONS, generator=generator) * 2 - 1,
        rewards=torch.randn(size, rows, generator=generator),
        is_first=flags, is_last=flags, is_terminal=flags,
    )  # fmt: skip

    class Clock(Callback):
        began = 0.0
        taken: list[float] = []

        def on_step_begin(self, trainer: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, trainer: Any) -> None:
            self.taken.append(time.perf_counter() - self.began)

    with tempfile.TemporaryDirectory() as folder:
        config = TrainingConfig(output_dir=folder, device="cpu", save_interval=0, log_interval=0, eval_interval=0)
        trainer, clock = Trainer(built, config, [Clock()]), Clock()
        while True:
            clock.taken.clear()
            trainer.train([batch], num_steps=trainer.step + steps)
            yield min(clock.taken)


def acting(model: str) -> Iterator[float]:
    """Seconds per step of the policy in one environment, exploring."""
    import torch

    built = build(model)
    if hasattr(built, "updates"):
        built.updates += 1  # it acts as one that has learnt something
    policy, obs = built.eval().policy(), torch.randn(1, OBS, generator=torch.Generator().manual_seed(0))
    carry = policy.initial(1)
    while True:
        began, steps = time.perf_counter(), 0
        while steps == 0 or time.perf_counter() - began < TURN:
            _, carry = policy({"obs": obs}, carry, is_first=torch.zeros(1, dtype=torch.bool), explore=True)
            steps += 1
        yield (time.perf_counter() - began) / steps


def collecting(model: str, rows: int = 64) -> Iterator[float]:
    """Seconds per row collected from four environments by a policy and stored, sampling included."""
    import worldflux
    from worldflux import TrainingConfig, make_env
    from worldflux.data import BatchRequest
    from worldflux.training import CollectConfig, environment_source

    env = make_env("Pendulum-v1", num_envs=4, seed=0)
    built = worldflux.create_world_model(
        model, observation_modalities=dict(env.obs_spec), action_spec=env.action_spec
    ).eval()
    if hasattr(built, "updates"):
        built.updates += 1
    training = TrainingConfig(batch_size=4, sequence_length=8, device="cpu")
    collect = CollectConfig(replay_capacity=20_000, replay_ratio=4 * 8 / rows, min_rows=8)
    source = environment_source(built, env, training=training, collect=collect)
    request = BatchRequest(4, 8 + built.context_rows)
    source.sample(request)
    while True:
        before, began = source.env_steps, time.perf_counter()
        while source.env_steps == before or time.perf_counter() - began < TURN:
            source.sample(request)
        yield (time.perf_counter() - began) / (source.env_steps - before)


COLLECT: tuple[str, ...] = ("collect dreamer:ci", "collect mbpo:ci")

if __name__ == "__main__":
    main()
