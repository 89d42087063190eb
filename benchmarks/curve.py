"""Draw recorded learning runs and, if given, an official learning curve beside them.

    python benchmarks/curve.py docs/results/learning-pendulum-mbpo-ci.json
    python benchmarks/curve.py docs/results/learning-dmc-cartpole-balance-tdmpc2-1m.json \\
        --official results/tdmpc2/cartpole-balance.csv --repeat 2

The official file has the columns step, reward, seed, as nicklashansen/tdmpc2 publishes its results; ``--repeat`` is how
many of its steps are one decision. The picture lies beside the JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

COLOURS = ("#1f4e9c", "#c2571a", "#2d8a4e", "#7a3e9d")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("--official", type=Path, help="a CSV of official results")
    parser.add_argument("--repeat", type=int, default=1, help="official steps to a decision")
    args = parser.parse_args()
    result = json.loads(args.result.read_text(encoding="utf-8"))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for colour, run in zip(COLOURS, result["results"]):
        points = run["curve"]
        xs, ys = [p["env_steps"] for p in points], [p["return"] for p in points]
        axes.plot(xs, ys, color=colour, linewidth=1, label=f"seed {run['seed']}, episodes while training")
        axes.plot(run["env_steps"], run["mean_return"], "o", color=colour, label=f"seed {run['seed']}, evaluation")
    if args.official:
        end = max(run["env_steps"] for run in result["results"])
        for seed, points in official(args.official, args.repeat).items():
            near = points[: 2 + sum(x <= end for x, _ in points)]  # and two beyond
            label = "official, evaluation" if seed == "1" else None
            axes.plot(*zip(*near), "x--", color="#888888", linewidth=0.8, label=label)
    axes.set_xlabel("environment steps (decisions)")
    axes.set_ylabel("return")
    axes.set_title(result["what"].split(" over ")[0], fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    picture = args.result.with_suffix(".png")
    figure.savefig(picture, dpi=100)
    print(picture)


def official(path: Path, repeat: int) -> dict[str, list[tuple[float, float]]]:
    """Decisions and returns of each seed."""
    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            curves[row["seed"]].append((float(row["step"]) / repeat, float(row["reward"])))
    return curves


if __name__ == "__main__":
    main()
