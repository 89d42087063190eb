"""Train a small DreamerV3 on CartPole, evaluate it beside the random policy, save it.

python examples/train_cartpole.py                  # minutes
python examples/train_cartpole.py --smoke          # seconds: enough to see it run, not to learn
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import worldflux
from worldflux.data import EnvironmentSource, Replay
from worldflux.envs import make_env
from worldflux.evals import evaluate_policy, random_baseline
from worldflux.training import Trainer, TrainingConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=None, help="the run's directory (default: a temporary one)")
    parser.add_argument("--updates", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    run = args.run or Path(tempfile.mkdtemp()) / "cartpole"
    updates, episodes = (4, 2) if args.smoke else (args.updates, 20)

    env = make_env("CartPole-v1", num_envs=4, seed=args.seed)
    model = worldflux.create_world_model(
        "dreamer:ci", observation_modalities=env.obs_spec, action_spec=env.action_spec, seed=args.seed
    )
    policy = model.policy()
    replay = Replay(
        100_000,
        obs_spec=env.obs_spec,
        action_spec=env.action_spec,
        num_streams=env.num_envs,
        latent_spec=policy.latent_spec,
        seed=args.seed,
    )
    config = TrainingConfig(total_steps=updates, batch_size=16, sequence_length=32, output_dir=str(run), seed=args.seed)
    source = EnvironmentSource(env, policy, replay, replay_ratio=128, seed=args.seed)
    Trainer(model, config).train(source)

    held_out = make_env("CartPole-v1", num_envs=4, seed=args.seed + 1000)
    print("random :", random_baseline(held_out, episodes=episodes).mean)
    print("trained:", evaluate_policy(held_out, model.policy(), episodes=episodes).mean)
    print("saved  :", model.save_pretrained(run / "final"))


if __name__ == "__main__":
    main()
