"""Masked pretraining of V-JEPA 2 on clips of moving shapes: what it predicts, and whether its tokens know directions.

    python benchmarks/moving_shapes.py --seed 0
    python benchmarks/moving_shapes.py --seed 0 --record

A bright disc or square of any colour and size moves over a dark ground of another colour, in one of four directions, at
a twentieth to a tenth of the picture a frame, out at one side and in at the other. The clips are written as a dataset,
and ``worldflux.fit`` learns from it as the preset says. On clips that were never seen the loss is read against three
guesses: the mean of all hidden tokens; the best constant, which is their median; the mean of what the clip shows.
Probes then learn the direction from frozen tokens of whole clips, of the trained encoder and of one that was never
trained, and name it on other clips: the attentive one, and one that is linear in the mean of a clip's tokens.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from record import record
from torch import Tensor

import worldflux
from worldflux import ActionSpec, Batch, ModalityKind, ModalitySpec
from worldflux.data import DatasetWriter
from worldflux_jepa.layers.video import select
from worldflux_jepa.vjepa2 import VJEPA2, AttentiveProbe
from worldflux_jepa.vjepa2.losses import masked_loss, mean_token_loss

DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))
JUDGED, PROBE_LEARNS, PROBE_NAMES = 256, 800, 300  # clips
PART = 32  # clips that are encoded at once


def shapes(clips: int, frames: int, side: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Clips of bytes ``[B, T, 3, side, side]`` and the number of each one's direction ``[B]``."""
    random = np.random.default_rng(seed)
    directions = random.integers(0, len(DIRECTIONS), clips)
    video = np.empty((clips, frames, 3, side, side), np.uint8)
    for clip, direction in enumerate(directions):
        ground, colour = random.integers(0, 128, 3), random.integers(128, 256, 3)
        place, disc = random.uniform(0, side, 2), bool(random.integers(2))
        size, speed = random.integers(side // 5, side // 3), random.uniform(side / 20, side / 10)
        for frame in range(frames):
            inside = covered(place + frame * speed * np.array(DIRECTIONS[direction]), size, side, disc=disc)
            video[clip, frame] = np.where(inside, colour[:, None, None], ground[:, None, None])
    return torch.from_numpy(video), torch.from_numpy(directions)


def covered(centre: NDArray[np.float64], size: int, side: int, *, disc: bool) -> NDArray[np.bool_]:
    """The pixels ``[side, side]`` of a shape, which goes on at the other side where it leaves one."""
    apart = np.abs(np.arange(side)[None] - (centre % side)[:, None])
    down, across = np.minimum(apart, side - apart)
    return np.add.outer(down**2, across**2) < size**2 if disc else np.maximum.outer(down, across) < size


def recorded(path: Path, clips: Tensor) -> Path:
    """Write clips as a dataset, each an episode without actions and rewards."""
    images = {"obs": ModalitySpec(ModalityKind.IMAGE, tuple(clips.shape[2:]), "uint8")}
    with DatasetWriter(path, images, ActionSpec("none"), rewards=False) as writer:
        for clip in clips.numpy():
            writer.append({"obs/obs": clip})
    return path


@torch.no_grad()
def missed(model: VJEPA2, clips: Tensor) -> dict[str, float]:
    """What predictions of clips miss (L1), and what guesses would; how far targets differ from each other."""
    names = ("masked_l1", "mean_token_l1", "median_token_l1", "clip_mean_l1", "target_std")
    found: dict[str, list[float]] = {name: [] for name in names}
    for part in clips.split(PART):
        ((video, _, masks),) = model.drawn(model.checked(Batch(obs={"obs": part})))
        target = model.targets(video)
        found["target_std"].append(float(target.std((0, 1)).mean()))
        for mask, (_, predicted) in zip(masks, model.predicted(video, masks), strict=True):
            shown, hidden = select(target, mask.context), select(target, mask.target)
            median = hidden.flatten(0, 1).median(0).values
            guesses = (predicted, median.expand_as(hidden), shown.mean(1, keepdim=True).expand_as(hidden))
            for name, guess in zip(("masked_l1", "median_token_l1", "clip_mean_l1"), guesses, strict=True):
                found[name].append(float(masked_loss(guess, hidden, exponent=1.0).mean()))
            found["mean_token_l1"].append(float(mean_token_loss(hidden, exponent=1.0)))
    return {name: float(np.mean(values)) for name, values in found.items()}


def probed(model: VJEPA2, learn: tuple[Tensor, Tensor], judge: tuple[Tensor, Tensor], *, updates: int) -> list[float]:
    """The shares of clips whose direction an attentive probe and a linear one name, from frozen tokens."""
    with torch.no_grad():
        tokens, others = (torch.cat([model.tokens(part) for part in clips.split(PART)]) for clips, _ in (learn, judge))
    mean, deviation = tokens.mean((0, 1)), tokens.std((0, 1)) + 1e-6
    tokens, others = (tokens - mean) / deviation, (others - mean) / deviation
    named = (attentive(tokens, learn[1], others, updates=updates), linear(tokens, learn[1], others))
    return [float((one == judge[1]).float().mean()) for one in named]


def attentive(tokens: Tensor, directions: Tensor, others: Tensor, *, updates: int) -> Tensor:
    """The directions ``[B]`` that an attentive probe names of other clips' tokens ``[B, N, D]``."""
    probe = AttentiveProbe(tokens.shape[-1], len(DIRECTIONS), heads=3, depth=1)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=1e-3, weight_decay=0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(updates):
        chosen = torch.randint(len(tokens), (PART,), generator=generator)
        loss = F.cross_entropy(probe(tokens[chosen]), directions[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return probe(others).argmax(-1)


def linear(tokens: Tensor, directions: Tensor, others: Tensor) -> Tensor:
    """The directions ``[B]`` that ridge regression on the mean of a clip's tokens names."""
    known, asked = tokens.mean(1).double(), others.mean(1).double()
    mean, deviation = known.mean(0), known.std(0) + 1e-6
    known, asked = (known - mean) / deviation, (asked - mean) / deviation
    wanted = F.one_hot(directions, len(DIRECTIONS)).double() - 1 / len(DIRECTIONS)
    weights = torch.linalg.solve(known.T @ known + torch.eye(known.shape[1], dtype=torch.double), known.T @ wanted)
    return (asked @ weights).argmax(-1)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Train from recorded clips, and judge on others."""
    untrained = worldflux.create_world_model(args.model, seed=args.seed).eval()
    assert isinstance(untrained, VJEPA2)
    frames, side = max(untrained.config.clip_frames), untrained.config.obs_shape[-1]
    clips, judged, learn, judge = (
        shapes(count, frames, side, seed=100 * args.seed + n)
        for n, count in enumerate((args.clips, JUDGED, PROBE_LEARNS, PROBE_NAMES))
    )
    with tempfile.TemporaryDirectory() as folder:
        data = recorded(Path(folder) / "set", clips[0])
        settings: dict[str, Any] = {"held_out": 0.0, "eval_every": 0, "save_every": 0, "threads": 1}
        began, used = time.perf_counter(), time.process_time()
        run = worldflux.fit(
            args.model, data=data, run=Path(folder) / "run", updates=args.updates, seed=args.seed, **settings
        )
        seconds, used = time.perf_counter() - began, time.process_time() - used
    model = run.model.eval()
    assert isinstance(model, VJEPA2)
    found = missed(model, judged[0])
    below = {name: 1 - found["masked_l1"] / found[f"{name}_l1"] for name in ("mean_token", "median_token", "clip_mean")}
    accuracy: dict[str, float] = {}
    for name, one in (("", model), ("_untrained", untrained)):
        by_attention, by_mean = probed(one, learn, judge, updates=args.probe_updates)
        accuracy |= {f"direction_accuracy{name}": by_attention, f"direction_accuracy_linear{name}": by_mean}
    return {
        "seed": args.seed, "updates": args.updates, "seconds": round(seconds, 1), "cpu_seconds": round(used, 1),
        **found, **{f"below_the_{name}": value for name, value in below.items()}, **accuracy,
        "passed": below["mean_token"] >= 0.3 and accuracy["direction_accuracy"] >= 0.9,
    }  # fmt: skip


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vjepa2:tiny")
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--probe-updates", type=int, default=400)
    parser.add_argument("--clips", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="keep the numbers in docs/results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(args)
    print(result)
    if args.record:
        name = args.model.replace(":", "-")
        options = f"--model {args.model} --updates {args.updates} --clips {args.clips} --seed SEED"
        record(
            f"moving-shapes-{name}",
            case=result,
            key="seed",
            what=f"masked pretraining of {args.model} on moving shapes: L1 on new clips, probes of directions",
            command=f"OMP_NUM_THREADS=1 python benchmarks/moving_shapes.py {options}",
            baseline="the mean and the median of all hidden tokens; the mean of the clip's shown tokens; an untrained "
            "encoder; chance is 0.25",
            bar="below_the_mean_token >= 0.3, direction_accuracy >= 0.9",
        )


if __name__ == "__main__":
    main()
