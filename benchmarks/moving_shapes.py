"""Masked pretraining of V-JEPA 2 on clips of moving shapes: what it predicts, and whether its tokens know directions.

    python benchmarks/moving_shapes.py --updates 200
    python benchmarks/moving_shapes.py --updates 200 --record

A disc or a square of any size and bright colour moves over black, in one of four directions, at a twentieth to a tenth
of the picture a frame, out at one side and in at the other. On held-out clips the loss is read against guessing the
mean of all hidden tokens, and the mean of the clip's shown ones. An attentive probe then learns the direction from
frozen tokens of whole clips, of the trained encoder and of one that was never trained; both are judged on clips that
neither has seen.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from record import record
from torch import Tensor

import worldflux
from worldflux import Batch
from worldflux_jepa.layers.video import select
from worldflux_jepa.vjepa2 import VJEPA2, AttentiveProbe
from worldflux_jepa.vjepa2.losses import masked_loss

DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))


def shapes(clips: int, frames: int, side: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Clips of bytes ``[B, T, 3, side, side]`` and the number of each one's direction ``[B]``."""
    random = np.random.default_rng(seed)
    directions = random.integers(0, len(DIRECTIONS), clips)
    video = np.empty((clips, frames, 3, side, side), np.uint8)
    for clip, direction in enumerate(directions):
        colour, place, disc = random.integers(128, 256, 3), random.uniform(0, side, 2), bool(random.integers(2))
        size, speed = random.integers(side // 8, side // 4), random.uniform(side / 20, side / 10)
        for frame in range(frames):
            inside = covered(place + frame * speed * np.array(DIRECTIONS[direction]), size, side, disc=disc)
            video[clip, frame] = np.where(inside, colour[:, None, None], 0)
    return torch.from_numpy(video), torch.from_numpy(directions)


def covered(centre: NDArray[np.float64], size: int, side: int, *, disc: bool) -> NDArray[np.bool_]:
    """The pixels ``[side, side]`` of a shape, which goes on at the other side where it leaves one."""
    apart = np.abs(np.arange(side)[None] - (centre % side)[:, None])
    down, across = np.minimum(apart, side - apart)
    return np.add.outer(down**2, across**2) < size**2 if disc else np.maximum.outer(down, across) < size


def pretrain(model: VJEPA2, clips: Tensor, updates: int) -> None:
    """Masked pretraining with the preset's settings."""
    config, generator = model.config, torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameter_groups(), weight_decay=config.weight_decay)
    for update in range(updates):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (update + 1) / max(config.warmup_steps, 1))
        chosen = torch.randint(len(clips), (config.batch_size,), generator=generator)
        out = model.loss(Batch(obs={"obs": clips[chosen]}))
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        model.on_after_optimizer_step()
        if update % 50 == 0:
            print(f"update {update}: {float(out.loss.detach()):.3f}", flush=True)


@torch.no_grad()
def missed(model: VJEPA2, clips: Tensor) -> dict[str, float]:
    """What predictions of held-out clips miss (L1), and what two guesses would."""
    found: dict[str, list[float]] = {"masked_l1": [], "mean_token_l1": [], "clip_mean_l1": []}
    for part in clips.split(32):
        out = model.loss(Batch(obs={"obs": part}))
        found["masked_l1"].append(float(out.loss))
        found["mean_token_l1"].append(float(out.metrics["mean_token"]))
        ((video, _, masks),) = model.drawn(model.checked(Batch(obs={"obs": part})))
        target = model.targets(video)
        for mask in masks:
            shown, hidden = select(target, mask.context), select(target, mask.target)
            guess = shown.mean(1, keepdim=True).expand_as(hidden)
            found["clip_mean_l1"].append(float(masked_loss(guess, hidden, exponent=1.0).mean()))
    return {name: float(np.mean(values)) for name, values in found.items()}


def probed(model: VJEPA2, learn: tuple[Tensor, Tensor], judge: tuple[Tensor, Tensor], *, updates: int) -> float:
    """The share of held-out clips whose direction an attentive probe of frozen tokens names."""
    with torch.no_grad():
        tokens, others = (torch.cat([model.tokens(part) for part in clips.split(32)]) for clips, _ in (learn, judge))
    mean, deviation = tokens.mean((0, 1)), tokens.std((0, 1)) + 1e-6
    tokens, others = (tokens - mean) / deviation, (others - mean) / deviation
    probe = AttentiveProbe(tokens.shape[-1], len(DIRECTIONS), heads=model.config.num_heads, depth=1)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=1e-3, weight_decay=0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(updates):
        chosen = torch.randint(len(tokens), (64,), generator=generator)
        loss = F.cross_entropy(probe(tokens[chosen]), learn[1][chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return float((probe(others).argmax(-1) == judge[1]).float().mean())


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Train, and judge."""
    model, untrained = (worldflux.create_world_model(args.model, seed=args.seed) for _ in range(2))
    assert isinstance(model, VJEPA2) and isinstance(untrained, VJEPA2)
    frames, side = max(model.config.clip_frames), model.config.obs_shape[-1]
    sets = [
        shapes(count, frames, side, seed=100 * args.seed + n) for n, count in enumerate((args.clips, 128, 500, 400))
    ]
    began = time.process_time()
    pretrain(model.train(), sets[0][0], args.updates)
    seconds = time.process_time() - began
    model.eval()
    found = missed(model, sets[1][0])
    below = 1 - found["masked_l1"] / found["mean_token_l1"]
    accuracy = {
        name: probed(one.eval(), sets[2], sets[3], updates=args.probe_updates)
        for name, one in (("trained", model), ("untrained", untrained))
    }
    return {
        "seed": args.seed, "updates": args.updates, "cpu_seconds": seconds, **found, "below_the_mean_token": below,
        "direction_accuracy": accuracy["trained"], "direction_accuracy_untrained": accuracy["untrained"],
        "passed": below >= 0.3 and accuracy["trained"] >= 0.9,
    }  # fmt: skip


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vjepa2:tiny")
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--probe-updates", type=int, default=300)
    parser.add_argument("--clips", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="keep the numbers in docs/results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(args)
    print(result)
    if args.record:
        name = args.model.replace(":", "-")
        options = f"--model {args.model} --updates {args.updates} --clips {args.clips} --seed {args.seed}"
        record(
            f"moving-shapes-{name}",
            case=result,
            key="seed",
            what=f"masked pretraining of {args.model} on moving shapes: L1 on held-out clips, a probe of directions",
            command=f"python benchmarks/moving_shapes.py {options}",
            baseline="the mean of all hidden tokens; of the clip's shown tokens; an untrained encoder; chance is 0.25",
            bar="below_the_mean_token >= 0.3, direction_accuracy >= 0.9",
        )


if __name__ == "__main__":
    main()
