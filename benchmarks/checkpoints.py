"""What a second checkpoint of a large replay costs beside the first.

    OMP_NUM_THREADS=1 python benchmarks/checkpoints.py [--rows 100000] [--rounds 3] [--directory DIR] [--record]

A replay of image rows (64 x 64 x 3) is saved by a Trainer, 1,000 rows are added, and it is saved again: seconds until
the checkpoint is published (its files are synced to the disk by then) and bytes that are in no earlier checkpoint. The
least of some rounds is kept. Latents that updates wrote back are new in any case: one case has them in every row.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from record import record
from torch import nn

from worldflux.core.output import LossOutput
from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec
from worldflux.data import BatchRequest, Replay
from worldflux.training import Trainer, TrainingConfig

STREAMS, EPISODE, NEW = 4, 500, 1_000
IMAGE = {"image": ModalitySpec(ModalityKind.IMAGE, (3, 64, 64), "uint8")}
LATENTS = {"deter": ((512,), "float16"), "stoch": ((32,), "uint8")}
CASES = {  # latents of a row, and which of them updates replace between the two checkpoints
    "images": (None, 0.0),
    "images and latents, a hundredth of them replaced": (LATENTS, 0.01),
    "images and latents, all of them replaced": (LATENTS, 1.0),
}


class Small(nn.Module):
    """As little of a model as a Trainer takes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def loss(self, batch) -> LossOutput:
        return LossOutput(self.layer(batch.rewards[..., None]).square().mean())


def add(replay: Replay, rows: int, rng: np.random.Generator, *, start: int = 0) -> None:
    """Add so many rows, over all streams, of noise."""
    for row in range(start, start + rows // STREAMS):
        first = np.full(STREAMS, row % EPISODE == 0)
        last = np.full(STREAMS, row % EPISODE == EPISODE - 1)
        image = rng.integers(0, 256, (STREAMS, 3, 64, 64), np.uint8)
        step = SimpleNamespace(
            obs={"image": image},
            reward=np.zeros(STREAMS, np.float32),
            is_first=first,
            is_last=last,
            is_terminal=np.zeros(STREAMS, bool),
        )
        named = replay.latent_names
        latents = {n: rng.integers(0, 2, (STREAMS, *LATENTS[n][0])).astype(LATENTS[n][1]) for n in named}
        replay.add(step, np.zeros((STREAMS, 2), np.float32), latents)


def replace(replay: Replay, share: float) -> None:
    """Write latents back into about this share of the rows, at random places, as updates do."""
    written = 0
    while written < share * len(replay):
        batch = replay.sample(BatchRequest(16, 64))
        if share == 1:  # each row once
            stream, row = np.divmod(np.arange(written, min(written + 1024, len(replay))), len(replay) // STREAMS)
            batch.extras["wf.replay.index"] = torch.from_numpy((row * STREAMS + stream)[None])
        rows = batch.extras["wf.replay.index"].shape
        latents = {name: torch.randint(0, 9, (*rows, *shape)) for name, (shape, _) in LATENTS.items()}
        written += replay.update(batch, latents)


def new_bytes(checkpoint: Path, before: set[int]) -> tuple[int, set[int]]:
    """Bytes of the files that were not on the disk before, and all there are now."""
    files = {file.stat().st_ino: file.stat().st_size for file in checkpoint.rglob("*") if file.is_file()}
    return sum(size for inode, size in files.items() if inode not in before), set(files)


def one_round(rows: int, latents: dict | None, share: float, folder: Path) -> dict[str, float]:
    """Seconds and bytes of two checkpoints of one run."""
    rng = np.random.default_rng(0)
    replay = Replay(
        2 * rows, obs_spec=IMAGE, action_spec=ActionSpec("continuous", 2), num_streams=STREAMS, latent_spec=latents
    )
    add(replay, 1_000, rng)
    config = TrainingConfig(
        total_steps=1, batch_size=2, sequence_length=4, save_interval=0, output_dir=str(folder / "run"), device="cpu"
    )
    trainer = Trainer(Small(), config)
    trainer.train(replay)
    shutil.rmtree(folder / "run/checkpoints")
    add(replay, rows - 1_000, rng, start=1_000 // STREAMS)
    out, seen = {}, set()
    for which in ("first", "second"):
        if which == "second":
            add(replay, NEW, rng, start=rows // STREAMS)
            replace(replay, share)
        trainer.step += 1
        start = time.perf_counter()
        path = trainer.save_checkpoint()
        out[f"{which}_seconds"] = time.perf_counter() - start
        out[f"{which}_bytes"], seen = new_bytes(path, seen)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", help="a folder on the disk to measure; default: the system's temporary one")
    parser.add_argument("--record", action="store_true", help="keep the results in docs/results")
    args = parser.parse_args()
    for name, (latents, share) in CASES.items():
        rounds = []
        for _ in range(args.rounds):
            with tempfile.TemporaryDirectory(dir=args.directory) as folder:
                rounds.append(one_round(args.rows, latents, share, Path(folder)))
        least = {key: min(one[key] for one in rounds) for key in rounds[0]}
        case = {"case": f"{name}, {args.rows} rows and {NEW} more", **least}
        for unit in ("seconds", "bytes"):
            case[f"{unit}_ratio"] = case[f"second_{unit}"] / case[f"first_{unit}"]
        print(case, flush=True)
        if args.record:
            record(
                "checkpoint-cost",
                case=case,
                key="case",
                what="Seconds and new bytes of two checkpoints of one replay, the second after 1,000 rows more",
                rounds=f"the least of {args.rounds}",
                command="OMP_NUM_THREADS=1 python benchmarks/checkpoints.py --record",
                bar="the second takes less than a tenth of the first's seconds and bytes (images)",
            )


if __name__ == "__main__":
    main()
