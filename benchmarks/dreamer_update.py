"""Milliseconds per DreamerV3 update, and where they go.

    python benchmarks/dreamer_update.py                      # size1m, 24 numbers in, 6 actions, 16 x 64, horizon 15
    python benchmarks/dreamer_update.py --size size12m --updates 3

An update is what training does after sampling: loss, backward, optimizer step, slow critic. Parts are timed in updates
of their own, so that timing does not slow the total. The plain implementation is measured in turns with the fast one.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
from record import record

from worldflux.core.batch import Batch
from worldflux_dreamer import DreamerV3, DreamerV3Config
from worldflux_dreamer.dreamerv3 import model as plain
from worldflux_dreamer.dreamerv3.fast import fast


def make_batch(model: DreamerV3, size: int, steps: int) -> Batch:
    """A batch of noise with a few episode starts, in the shapes of a replay."""
    generator = torch.Generator().manual_seed(0)
    rows, config = steps + 1, model.config
    return Batch(
        obs={n: torch.randn(size, rows, *s.shape, generator=generator) for n, s in config.modalities.items()},
        actions=torch.rand(size, rows, config.actions.dim, generator=generator) * 2 - 1,
        rewards=torch.randn(size, rows, generator=generator),
        is_first=torch.rand(size, rows, generator=generator) < 0.01,
        is_last=torch.zeros(size, rows, dtype=torch.bool),
        is_terminal=torch.zeros(size, rows, dtype=torch.bool),
        context={
            "deter": torch.zeros(size, rows, config.deter_dim, dtype=torch.float16),
            "stoch": torch.zeros(size, rows, config.stoch, dtype=torch.uint8),
        },
    )


class Clock:
    """Adds up the time spent in named functions while they are wrapped."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def wrap(self, name: str, function: Callable) -> Callable:
        def timed(*args, **kwargs):
            began = time.perf_counter()
            result = function(*args, **kwargs)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
            return result

        return timed

    @contextmanager
    def watch(self, module: object, name: str, label: str):
        original = getattr(module, name)
        setattr(module, name, self.wrap(label, original))
        try:
            yield
        finally:
            setattr(module, name, original)


class Learner:
    """A model, its optimizer and a batch to learn from."""

    def __init__(self, args: argparse.Namespace, *, reference: bool) -> None:
        config = DreamerV3Config.from_size(
            args.size, obs_shape=(args.obs,), action_dim=args.actions, reference=reference
        )
        self.used = plain if reference else fast
        self.model = DreamerV3(config).train()
        rates = argparse.Namespace(learning_rate=config.learning_rate, weight_decay=0.0)
        self.optimizer = self.model.configure_optimizer(rates)
        self.batch = make_batch(self.model, args.batch, args.steps)
        self.times: list[float] = []  # in milliseconds

    def update(self, clock: Clock | None = None) -> None:
        step = clock.wrap if clock else lambda name, function: function
        self.optimizer.zero_grad(set_to_none=True)
        loss = step("forward", self.model.loss)(self.batch).loss
        step("backward", loss.backward)()
        step("optimizer", self.optimizer.step)()
        step("optimizer", self.model.on_after_optimizer_step)()

    def timed_update(self) -> None:
        began = time.perf_counter()
        self.update()
        self.times.append((time.perf_counter() - began) * 1e3)

    def parts(self, updates: int = 3) -> dict[str, float]:
        """Milliseconds of an update by what is done in them."""
        clock = Clock()
        with clock.watch(self.used, "observe", "observe"), clock.watch(self.model, "_imagine", "imagine"):
            for _ in range(updates):
                self.update(clock)
        parts = {name: seconds / updates * 1e3 for name, seconds in clock.seconds.items()}
        parts["losses"] = parts.pop("forward") - parts["observe"] - parts["imagine"]
        return {name: parts[name] for name in ("observe", "imagine", "losses", "backward", "optimizer")}

    def result(self) -> dict[str, Any]:
        """The measurement as docs/results keeps it."""
        parts = self.parts()
        return {
            "median_ms": statistics.median(self.times),
            "fastest_ms": min(self.times),
            "slowest_ms": max(self.times),
            "updates": len(self.times),
            "parts_ms": parts,
            "shares": {name: value / sum(parts.values()) for name, value in parts.items()},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="size1m")
    parser.add_argument("--obs", type=int, default=24)
    parser.add_argument("--actions", type=int, default=6)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--record", action="store_true", help="keep the result in docs/results")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    learners = {name: Learner(args, reference=name == "reference") for name in ("fast", "reference")}
    for learner in learners.values():
        learner.update()
        learner.update()
    for _ in range(args.updates):  # in turns, so that whatever else the machine does slows both alike
        for learner in learners.values():
            learner.timed_update()
    results = {name: learner.result() for name, learner in learners.items()}
    ratio = results["reference"]["median_ms"] / results["fast"]["median_ms"]
    shape = f"{args.size}, {args.obs} numbers in, {args.actions} actions, {args.batch} x {args.steps}, horizon 15"
    print(f"{shape}, {torch.get_num_threads()} threads")
    for name, result in results.items():
        fastest, slowest = result["fastest_ms"], result["slowest_ms"]
        print(f"{name:<10} {result['median_ms']:6.0f} ms per update (fastest {fastest:.0f}, slowest {slowest:.0f})")
        for part, value in result["parts_ms"].items():
            print(f"  {part:<10}{value:8.1f} ms {100 * result['shares'][part]:5.1f} %")
    print(f"the fast implementation is {ratio:.2f} times as fast as the plain one")
    if args.record:
        record(
            f"update-speed-{args.size}",
            case={"size": args.size, **results, "reference_to_fast": ratio},
            key="size",
            what=f"Milliseconds per DreamerV3 update ({shape}, float32), and the share of each part",
            command=f"python benchmarks/dreamer_update.py --size {args.size} --record",
        )


if __name__ == "__main__":
    main()
