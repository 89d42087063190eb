"""Milliseconds per rollout of V-JEPA 2-AC's candidate plans, with kept keys and values and without, in turns.

    python benchmarks/ac_rollouts.py                        # 256 tokens a frame, 256 wide, 4 blocks, horizon 4
    python benchmarks/ac_rollouts.py --candidates 16 --horizon 4 --seen 1 4

As in planning, ``--candidates`` rows begin from one state and differ in their actions. ``--seen`` are the frames that
the state knows: a plan that begins with one picture knows 1. How far the two ways differ is measured on the same
states, and so is how many frames each reads. Where one frame was seen a candidate reads 1 + 2 + 3 + 4 frames again or
4 once: 2.5 times the work, and somewhat more in the attention, so the bar of 3 is out of reach there.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from record import record

from worldflux import State
from worldflux_jepa.vjepa2_ac import VJEPA2AC, VJEPA2ACConfig

Way = Callable[[VJEPA2AC, State, torch.Tensor], State]
BAR, EQUAL = 3.0, 1e-5


def build(args: argparse.Namespace) -> VJEPA2AC:
    """A model with a narrow encoder, which no rollout asks."""
    side = 16 * args.grid
    config = VJEPA2ACConfig(
        observation_modalities={"image": {"kind": "image", "shape": (3, side, side)}, "pose": {"shape": (7,)}},
        action_dim=7,
        embed_dim=args.width,
        depth=1,
        num_heads=args.width // 64,
        predictor_dim=args.width,
        predictor_depth=args.blocks,
        predictor_heads=args.width // 64,
        window=max(args.seen) + args.horizon,
        history=max(args.seen),
    )
    model = VJEPA2AC(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # weights as they start hardly mix anything, which would hide a difference
        for parameter in model.dynamics_model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def observed(model: VJEPA2AC, candidates: int, seen: int) -> State:
    """A state that knows ``seen`` frames, once for each candidate."""
    generator = torch.Generator().manual_seed(seen)

    def obs() -> dict[str, torch.Tensor]:
        shape = model.config.modalities["image"].shape
        image = torch.randint(0, 256, (1, *shape), dtype=torch.uint8, generator=generator)
        return {"image": image, "pose": 0.3 * torch.randn(1, 7, generator=generator)}

    state = model.encode(obs())
    for _ in range(seen - 1):
        state = model.update(state, 0.05 * torch.randn(1, 7, generator=generator), obs())
    return state.map(lambda value: value.repeat_interleave(candidates, 0))


def kept(model: VJEPA2AC, state: State, plan: torch.Tensor) -> State:
    """The last state of a rollout that keeps keys and values."""
    return model.rollout(state, plan, deterministic=True).states[-1]


def read_again(model: VJEPA2AC, state: State, plan: torch.Tensor) -> State:
    """The last state of a rollout in which every step reads all frames again."""
    for action in plan:
        state = model.imagined(state, action, None, True)
    return state


def frames_read(model: VJEPA2AC, way: Way, state: State, plan: torch.Tensor) -> int:
    """Of how many frames, of all candidates together, the predictor's first block reads the tokens."""
    read: list[int] = []
    layer = model.dynamics_model.predictor_blocks[0].attn.qkv
    hook = layer.register_forward_pre_hook(lambda _, given: read.append(given[0].shape[:2].numel()))
    way(model, state, plan)
    hook.remove()
    rows, columns = model.config.grid
    return sum(read) // (1 + len(model.config.vectors) + rows * columns)


def measured(model: VJEPA2AC, args: argparse.Namespace, seen: int) -> dict[str, float | int]:
    """Milliseconds of both, what they read, and how far they differ."""
    state = observed(model, args.candidates, seen)
    plan = 0.05 * torch.randn(args.horizon, args.candidates, 7, generator=torch.Generator().manual_seed(0))
    ways: tuple[Way, Way] = (kept, read_again)
    frames = [frames_read(model, way, state, plan) for way in ways]  # which warms up, too
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(args.repeats):
        ends = []
        for way, times in zip(ways, spent, strict=True):
            began = time.perf_counter()
            ends.append(way(model, state, plan)["latent"])
            times.append(1000 * (time.perf_counter() - began))
    once, again = (statistics.median(times) for times in spent)
    return {
        "seen": seen,
        "kept_ms": round(once, 1),
        "read_again_ms": round(again, 1),
        "times_faster": round(again / once, 2),
        "kept_frames": frames[0],
        "read_again_frames": frames[1],
        "times_fewer_frames": round(frames[1] / frames[0], 2),
        "largest_difference": float(f"{float((ends[0] - ends[1]).abs().max()):.2g}"),
    }


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"candidates": 4, "horizon": 4, "grid": 16, "width": 256, "blocks": 4}
    for name, value in {**sizes, "repeats": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--seen", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--record", action="store_true", help="keep the numbers in docs/results")
    args = parser.parse_args()
    model = build(args)
    for seen in args.seen:
        case = measured(model, args, seen)
        case |= {"passed": case["times_faster"] >= BAR and case["largest_difference"] <= EQUAL}
        print(case)
        if args.record:
            given = " ".join(f"--{name} {getattr(args, name)}" for name in sizes)
            record(
                "ac-rollouts",
                case=case,
                key="seen",
                what="milliseconds of a rollout of V-JEPA 2-AC's candidate plans from one state, with kept keys and "
                "values, and reading all again",
                command=f"python benchmarks/ac_rollouts.py {given} --seen {' '.join(map(str, args.seen))} --record",
                bar={"times_faster": BAR, "largest_difference": EQUAL},
            )


if __name__ == "__main__":
    main()
