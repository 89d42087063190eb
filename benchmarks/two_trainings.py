"""Updates a second of a training alone (with one thread, all threads, and as chosen by default) and of two at once.

    python benchmarks/two_trainings.py
    python benchmarks/two_trainings.py --model tdmpc2:ci --env Pendulum-v1 --rounds 5

Every training is a process of its own that collects from an environment as ``worldflux train`` does. Its first seconds,
in which it loads, fills its replay and chooses its threads, are left out; two at once are measured over the same
seconds. The cases take turns, so that whatever else the machine does slows all alike: run it alone all the same.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

CASES = {"one": (1, "1"), "all": (1, "all"), "auto": (1, "auto"), "two at once": (2, "auto")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dreamer:ci")
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=float, default=25, help="seconds of each training that are left out")
    parser.add_argument("--seconds", type=float, default=15, help="seconds that are measured")
    parser.add_argument("--record", action="store_true", help="keep the result in docs/results")
    parser.add_argument("--train", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        train(args.model, args.env, args.train[0], float(args.train[1]), float(args.train[2]))
        return
    speeds: dict[str, list[float]] = {case: [] for case in CASES}
    for turn in range(args.rounds):
        for case in list(CASES)[:: 1 if turn % 2 else -1]:
            found = measure(args, *CASES[case])
            speeds[case].append(min(found))
            print(f"{case:<12} " + ", ".join(f"{speed:.2f}" for speed in found), flush=True)
    result = summary(speeds)
    print("\n".join(f"{name:<32} {value}" for name, value in result.items()))
    if args.record:
        from record import record

        record(
            "two-trainings",
            case={"model": args.model, "env": args.env, **result, "updates_per_second": speeds},
            key="model",
            what="Updates a second of a training alone, with one thread, all and by default, and of the slower of two "
            "at once by default; medians of the rounds",
            command=f"python benchmarks/two_trainings.py {' '.join(sys.argv[1:])}",
            bar="auto at least 0.9 of the best fixed number; each of two at once at least 0.7 of one alone",
        )


def summary(speeds: dict[str, list[float]]) -> dict[str, float]:
    """Medians, and what they come to."""
    middle = {case: statistics.median(found) for case, found in speeds.items()}
    return {
        **{f"{case}_updates_per_second".replace(" ", "_"): round(speed, 2) for case, speed in middle.items()},
        "auto_to_best_fixed": round(middle["auto"] / max(middle["one"], middle["all"]), 3),
        "two_at_once_to_alone": round(middle["two at once"] / middle["auto"], 3),
    }


def measure(args: argparse.Namespace, number: int, threads: str) -> list[float]:
    """Updates a second of each of so many trainings at once."""
    begin = time.time() + args.before
    words = [sys.executable, __file__, "--model", args.model, "--env", args.env]
    words += ["--train", threads, str(begin), str(begin + args.seconds)]
    running = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(number)
    ]
    found = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit(f"a training stopped: {' '.join(words)}")
    return [float(text.split()[-1]) for text in found]


def train(model: str, env: str, threads: str, begin: float, end: float) -> None:
    """Train until ``end`` and print the updates a second since ``begin``, both as ``time.time`` counts."""
    import torch

    from worldflux import create_world_model, make_env
    from worldflux.training import Callback, train

    class Count(Callback):
        updates = 0

        def on_step_end(self, trainer: Any) -> None:
            now = time.time()
            self.updates += begin <= now < end
            if now >= end:
                trainer.stop("measured")

    number: Any = torch.get_num_threads() if threads == "all" else threads if threads == "auto" else int(threads)
    probe, count = make_env(env), Count()
    built = create_world_model(model, observation_modalities=dict(probe.obs_spec), action_spec=probe.action_spec)
    probe.close()
    with tempfile.TemporaryDirectory() as folder:
        train(
            built, env, 10**9, callbacks=[count], threads=number, output_dir=os.path.join(folder, "run"), device="cpu",
            save_interval=0, log_interval=0, eval_interval=0,
        )  # fmt: skip
    print(count.updates / (end - begin))


if __name__ == "__main__":
    main()
