"""The eleven tasks TD-MPC2 adds to dm_control's suite, as its official program defines them, beside ours.

    python benchmarks/official_dmc_tasks.py CHECKOUT
    python benchmarks/official_dmc_tasks.py CHECKOUT --render-size 64 --decisions 60

CHECKOUT is a checkout of nicklashansen/tdmpc2; what is imported of it needs dm_control alone. Both programs get the
same seeds and the same actions; a line says whether all observations and rewards are equal bit by bit. The exit status
is 1 if some are not.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

import numpy as np

from worldflux.envs import make_env
from worldflux.envs.suite import ADDED
from worldflux.envs.vector import episode_seed

REPEAT, HOLD = 2, 5  # control steps for an action, decisions for which it is held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--decisions", type=int, default=1010, help="for each seed; an episode has 500")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--render-size", type=int)
    args = parser.parse_args()
    os.environ.setdefault("MUJOCO_GL", "egl")
    sys.path.insert(0, str(args.checkout / "tdmpc2"))
    for domain in ("walker", "cheetah", "hopper", "reacher", "ball_in_cup", "pendulum"):
        importlib.import_module(f"envs.tasks.{domain}")  # adds its tasks to the suite's

    print(f"{'task':<24}{'equal':<8}{'rows':<8}{'largest difference':<22}{'reward, mean and max'}")
    unequal = 0
    for name in ADDED:
        rows, apart, rewards = 0, 0.0, []
        for seed in range(args.seeds):
            for (seen, paid), (official, due) in zip(*both(name, seed, args.decisions, args.render_size)):
                rows += 1
                apart = max(apart, float(np.abs(seen - official).max()), abs(paid - due))
                rewards.append(due)
        unequal += apart > 0
        told = "no" if apart else "yes"
        print(f"{name:<24}{told:<8}{rows:<8}{apart:<22g}{np.mean(rewards):.3f} {np.max(rewards):.3f}", flush=True)
    sys.exit(1 if unequal else 0)


def both(name: str, seed: int, decisions: int, size: int | None):
    """The rows (observation, reward) of our environment and of the official one."""
    draw = np.random.default_rng(seed)
    env = make_env(f"dmc:{name}", seed=seed, render_size=size)
    shape = (-(-decisions // HOLD), env.action_spec.dim)
    small, full = draw.uniform(-1, 1, shape), np.sign(draw.normal(size=shape))
    chosen = np.where(np.arange(shape[0])[:, None] // 10 % 2, full, small)
    actions = np.repeat(chosen, HOLD, 0)[:decisions].astype(np.float32)
    return ours(env, actions), theirs(name, seed, actions, size)


def ours(env, actions):
    step = env.reset()
    for action in actions:
        yield step.obs["obs"][0].astype(float), float(step.reward[0])
        step = env.step(action[None])
    env.close()


def theirs(name, seed, actions, size):
    from dm_control import suite
    from dm_control.suite.wrappers import action_scale

    domain, task = name.replace("cup-", "ball_in_cup-").split("-", 1)
    env = suite.load(domain, task.replace("-", "_"), task_kwargs={"random": 0})
    scaled = action_scale.Wrapper(env, minimum=-1.0, maximum=1.0)
    episode, now, paid = -1, None, 0.0
    for action in [None, *actions[:-1]]:
        if now is None or now.last():
            episode, paid = episode + 1, 0.0
            env.task.random.seed(episode_seed(seed, 0, episode))
            now = scaled.reset()
        else:
            paid = 0.0
            for _ in range(REPEAT):
                now = scaled.step(action.astype(np.float64))
                paid += now.reward
        if size is None:
            seen = np.concatenate([np.ravel(value) for value in now.observation.values()]).astype(np.float32)
        else:
            seen = env.physics.render(size, size, camera_id=0).transpose(2, 0, 1)
        yield seen.astype(float), float(np.float32(paid))


if __name__ == "__main__":
    main()
