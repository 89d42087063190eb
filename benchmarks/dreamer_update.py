"""Milliseconds per DreamerV3 update, and where they go.

    python benchmarks/dreamer_update.py                      # size1m, 24 numbers in, 6 actions, 16 x 64, horizon 15
    python benchmarks/dreamer_update.py --size size12m --reference

An update is what training does after sampling: loss, backward, optimizer step, slow critic. Parts are timed in updates
of their own, so that timing does not slow the total. ``--reference`` measures the plain implementation.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager

import torch

from worldflux.core.batch import Batch
from worldflux_dreamer import DreamerV3, DreamerV3Config, fast, objective


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="size1m")
    parser.add_argument("--obs", type=int, default=24)
    parser.add_argument("--actions", type=int, default=6)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--reference", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    config = DreamerV3Config.from_size(
        args.size, obs_shape=(args.obs,), action_dim=args.actions, reference=args.reference
    )
    model = DreamerV3(config)
    model.train()
    optimizer = model.configure_optimizer(argparse.Namespace(learning_rate=config.learning_rate, weight_decay=0.0))
    batch = make_batch(model, args.batch, args.steps)

    def update(clock: Clock | None = None) -> None:
        step = clock.wrap if clock else lambda name, function: function
        optimizer.zero_grad(set_to_none=True)
        loss = step("forward", model.loss)(batch).loss
        step("backward", loss.backward)()
        step("optimizer", optimizer.step)()
        step("optimizer", model.on_after_optimizer_step)()

    for _ in range(2):
        update()
    times = []
    for _ in range(args.updates):
        began = time.perf_counter()
        update()
        times.append((time.perf_counter() - began) * 1e3)
    clock, used = Clock(), objective if args.reference else fast
    with clock.watch(used, "observe", "observe"), clock.watch(used, "imagine", "imagine"):
        for _ in range(3):
            update(clock)
    parts = {name: seconds / 3 * 1e3 for name, seconds in clock.seconds.items()}
    parts["losses"] = parts.pop("forward") - parts["observe"] - parts["imagine"]
    total = sum(parts.values())
    print(
        f"{args.size}, {'reference' if args.reference else 'fast'}, {args.batch} x {args.steps}, horizon "
        f"{config.imagination}, {torch.get_num_threads()} threads: {statistics.median(times):.0f} ms per update "
        f"(fastest {min(times):.0f}, slowest {max(times):.0f}, of {args.updates})"
    )
    for name in ("observe", "imagine", "losses", "backward", "optimizer"):
        print(f"  {name:<10}{parts[name]:8.1f} ms {100 * parts[name] / total:5.1f} %")


if __name__ == "__main__":
    main()
