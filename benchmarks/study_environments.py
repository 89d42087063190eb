"""How often each policy that learns nothing reaches the goal in the environments for study, and how fast these run.

    OMP_NUM_THREADS=1 python benchmarks/study_environments.py [--episodes 1000] [--record]

An episode counts as a success if any of its rows is at the goal. Those solved at the start are left out and counted.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch
from record import record

from worldflux.envs import make_env
from worldflux.envs.study import POLICIES, StudyPolicy

KINDS: dict[str, dict[str, Any]] = {
    "point-goal": {},
    "two-room": {},
    "two-room, other room": {"goal": "other_room"},
    "two-room, other room, random wall and door": {"goal": "other_room", "wall": "random", "door": "random"},
    "push-block": {},
}
SECONDS = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--record", action="store_true", help="keep the results in docs/results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for case, options in KINDS.items():
        found = {"case": case, **successes(f"study:{case.partition(',')[0]}", options, args.episodes)}
        print(json.dumps(found), flush=True)
        if args.record:
            record(
                "study-environments",
                case=found,
                key="case",
                what="Share of episodes in which a policy that learns nothing reaches the goal, and steps per second",
                episodes=args.episodes,
                command="OMP_NUM_THREADS=1 python benchmarks/study_environments.py --record",
            )


def successes(name: str, options: dict[str, Any], episodes: int) -> dict[str, Any]:
    """Return the share of episodes in which each policy reaches the goal, and how fast the environments are."""
    found: dict[str, Any] = {}
    for policy in POLICIES:
        env = make_env(name, num_envs=episodes, env_options={**options, "obs": "state"})
        actor, step = StudyPolicy(policy, env), env.reset(0)
        carry, reached, when = actor.initial(episodes), env.success(), []
        while not step.is_last.all():
            taken, carry = actor(step.obs, carry, is_first=torch.as_tensor(step.is_first), explore=True)
            step = env.step(taken.numpy())
            when += [env.time[0]] * int((env.success() & ~reached).sum())
            reached |= env.success()
        found[policy] = round(float(reached.mean()), 4)
        if policy == "oracle":
            found["oracle_mean_steps"], found["oracle_most_steps"] = round(float(np.mean(when)), 1), int(max(when))
            found["solved_at_start"] = round(env.solved_at_start / (env.solved_at_start + episodes), 4)
            found["limit"], found["radius"] = env.max_episode_steps, round(env.options.radius, 4)
    for num in (1, 64):
        found[f"steps_per_second_{num}"] = round(speed(name, options, num))
    return found


def speed(name: str, options: dict[str, Any], num: int) -> float:
    """Return steps per second, pictures included."""
    env = make_env(name, num_envs=num, env_options=options)
    taken, steps = np.random.default_rng(0).uniform(-1, 1, (num, 2)), 0
    env.reset(0)
    began = time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        env.step(taken)
        steps += num
    return steps / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
