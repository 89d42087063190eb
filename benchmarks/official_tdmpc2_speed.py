"""Seconds per update and per plan of the official TD-MPC2 program on a CPU, to set beside ``tdmpc2.py``.

    PYTHON benchmarks/official_tdmpc2_speed.py CHECKOUT --size 5

PYTHON is an interpreter with torch and what else a checkout of nicklashansen/tdmpc2 needs; nothing of ours is imported.
The program computes on a GPU only: what is timed is a temporary copy in which ``cuda:0`` reads ``cpu``, on noise, in
the shapes that ``tdmpc2.py`` uses. ``--compile`` is the program's own setting.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace
from typing import Any

import torch
import yaml

TASK = {
    "task": "noise", "multitask": False, "tasks": ["noise"], "task_dim": 0, "obs": "state", "episode_length": 500,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--size", type=int, default=5, choices=(1, 5))
    parser.add_argument("--obs", type=int, default=24)
    parser.add_argument("--actions", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        program = Path(scratch) / "tdmpc2"
        copytree(args.checkout / "tdmpc2", program)
        for file in program.rglob("*.py"):
            text = file.read_text().replace("cuda:0", "cpu").replace("capturable=True", "capturable=False")
            file.write_text(text)
        sys.path.insert(0, str(program))
        agent = build(program, args)
    generator = torch.Generator().manual_seed(0)
    steps, size = agent.cfg.horizon, agent.cfg.batch_size
    batch = (
        torch.randn(steps + 1, size, args.obs, generator=generator),
        torch.rand(steps, size, args.actions, generator=generator) * 2 - 1,
        torch.rand(steps, size, 1, generator=generator),
        torch.zeros(steps, size, 1),
    )
    one = torch.randn(args.obs, generator=generator)
    plans = seconds(lambda: agent.act(one, t0=True), args.repeats)
    updates = seconds(lambda: agent._update(*batch), args.repeats)
    print(
        f"size {args.size}, {args.obs} numbers in, {args.actions} actions, {torch.get_num_threads()} threads: "
        f"{show(plans)} per plan, {show(updates)} per update"
    )


def build(program: Path, args: argparse.Namespace) -> Any:
    """The program's agent, by its ``config.yaml``."""
    from common import MODEL_SIZE
    from tdmpc2 import TDMPC2

    settings = yaml.safe_load((program / "config.yaml").read_text())
    number = {name: float(settings[name]) for name in ("lr", "entropy_coef")}  # YAML reads 3e-4 as a string
    config = {**settings, **number, **MODEL_SIZE[args.size], **TASK, "compile": args.compile}
    config |= {"obs_shape": {"state": (args.obs,)}, "action_dim": args.actions}
    config["bin_size"] = (config["vmax"] - config["vmin"]) / (config["num_bins"] - 1)
    return TDMPC2(Settings(**config))


class Settings(SimpleNamespace):
    """The program asks its settings by attribute and by ``get``."""

    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self, name, default)


def seconds(run: Callable[[], Any], repeats: int) -> list[float]:
    """The seconds of each call after two to warm up."""
    run()
    run()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return times


def show(times: list[float]) -> str:
    return f"{statistics.median(times):.3f} s (fastest {min(times):.3f})"


if __name__ == "__main__":
    main()
