"""One script for every family: train it on Pendulum, evaluate it, plan with what it learnt, save it.

python examples/any_family.py dreamer:ci           # minutes; also tdmpc2:ci, planet:ci, mbpo:ci
python examples/any_family.py tdmpc2:ci --smoke    # seconds: enough to see it run, not to learn
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import worldflux
from worldflux.planners import CEMPlanner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="dreamer:ci", help="a preset of any installed family")
    parser.add_argument("--run", type=Path, default=None, help="the run's directory (default: a temporary one)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    directory = args.run or Path(tempfile.mkdtemp()) / "pendulum"
    short = {"steps": 600, "eval_every": 0} if args.smoke else {}
    episodes = 1 if args.smoke else 20
    planner = CEMPlanner(horizon=3, num_samples=8, num_elites=4, iterations=1) if args.smoke else CEMPlanner()

    run = worldflux.fit(args.model, env="Pendulum-v1", run=directory, seed=args.seed, eval_episodes=episodes, **short)
    print("random policy:", run.evaluation.random.mean)
    print("its own policy:", run.evaluation.trained.mean)
    print("planning with its model:", run.plan(planner, episodes=episodes).mean)
    print("imagined rewards, 10 steps ahead:", run.imagine(horizon=10, sequences=4).summary()["reward"]["mae_at_10"])

    again = worldflux.create_world_model(str(run.model.save_pretrained(directory / "final")))
    print("saved and loaded:", type(again).__name__, f"{again.num_parameters():,} parameters")


if __name__ == "__main__":
    main()
