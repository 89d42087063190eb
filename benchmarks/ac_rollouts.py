"""Milliseconds per rollout of V-JEPA 2-AC, with kept keys and values and without, in turns.

    python benchmarks/ac_rollouts.py                        # 256 tokens a frame, 256 wide, 4 blocks, horizon 4
    python benchmarks/ac_rollouts.py --rows 16 --horizon 4 --seen 1 4

``--seen`` are the frames a state knows before it is rolled out: a plan that begins with one picture knows 1. How far
the two ways differ is measured on the same states.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from record import record

from worldflux import State
from worldflux_jepa.vjepa2_ac import VJEPA2AC, VJEPA2ACConfig

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


def observed(model: VJEPA2AC, rows: int, seen: int) -> State:
    """States that know ``seen`` frames."""
    generator = torch.Generator().manual_seed(seen)

    def obs() -> dict[str, torch.Tensor]:
        shape = model.config.modalities["image"].shape
        image = torch.randint(0, 256, (rows, *shape), dtype=torch.uint8, generator=generator)
        return {"image": image, "pose": 0.3 * torch.randn(rows, 7, generator=generator)}

    state = model.encode(obs())
    for _ in range(seen - 1):
        state = model.update(state, 0.05 * torch.randn(rows, 7, generator=generator), obs())
    return state


def read_again(model: VJEPA2AC, state: State, plan: torch.Tensor) -> State:
    """The last state of a rollout in which every step reads all frames again."""
    for action in plan:
        state = model.imagined(state, action, None, True)
    return state


def measured(model: VJEPA2AC, args: argparse.Namespace, seen: int) -> dict[str, float | int]:
    """Milliseconds of both, and how far they differ."""
    state = observed(model, args.rows, seen)
    plan = 0.05 * torch.randn(args.horizon, args.rows, 7, generator=torch.Generator().manual_seed(0))
    spent: dict[str, list[float]] = {"kept": [], "again": []}
    ends: dict[str, State] = {}
    for turn in range(args.repeats + 1):
        for name in spent:
            began = time.perf_counter()
            if name == "kept":
                ends[name] = model.rollout(state, plan, deterministic=True).states[-1]
            else:
                ends[name] = read_again(model, state, plan)
            if turn:  # the first warms up
                spent[name].append(1000 * (time.perf_counter() - began))
    kept, again = (statistics.median(values) for values in spent.values())
    apart = float((ends["kept"]["latent"] - ends["again"]["latent"]).abs().max())
    return {
        "seen": seen,
        "kept_ms": round(kept, 1),
        "read_again_ms": round(again, 1),
        "times_faster": round(again / kept, 2),
        "largest_difference": float(f"{apart:.2g}"),
    }


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("rows", 2), ("horizon", 4), ("grid", 16), ("width", 256), ("blocks", 4), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--seen", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--record", action="store_true", help="keep the numbers in docs/results")
    args = parser.parse_args()
    model = build(args)
    for seen in args.seen:
        case = measured(model, args, seen)
        case |= {"passed": case["times_faster"] >= BAR and case["largest_difference"] <= EQUAL}
        print(case)
        if args.record:
            given = " ".join(
                f"--{name} {getattr(args, name)}" for name in ("rows", "horizon", "grid", "width", "blocks")
            )
            record(
                "ac-rollouts",
                case=case,
                key="seen",
                what="milliseconds of one rollout of V-JEPA 2-AC with kept keys and values, and reading all again",
                command=f"python benchmarks/ac_rollouts.py {given} --seen {' '.join(map(str, args.seen))} --record",
                bar={"times_faster": BAR, "largest_difference": EQUAL},
            )


if __name__ == "__main__":
    main()
