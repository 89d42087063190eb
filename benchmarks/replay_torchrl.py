"""The replay beside torchrl's SliceSampler, each sampled after a write.

    pip install torchrl
    OMP_NUM_THREADS=1 python benchmarks/replay_torchrl.py [--rows 1000000 10000000] [--rounds 200] [--record]

Both hold the same numbers: rows of 24 + 6 floats, a reward and flags, in episodes of 501 rows, the ring full. In turns,
each gets 16 rows and gives a batch of 16 sequences of 64 rows from within an episode; only the batch is timed. torchrl
is used as its pages show it: ``LazyTensorStorage``, ``SliceSampler(slice_len=64, end_key="is_last")``; ``cache_values``
is for data that does not change, so it is off.
"""

from __future__ import annotations

import argparse
import time
from importlib.metadata import version
from statistics import median

import numpy as np
import torch
from record import record
from replay import BATCH, EPISODE, LENGTH, STREAMS, VECTOR, filled, row_to_add
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, SliceSampler, TensorDictReplayBuffer

from worldflux.data import BatchRequest


def peer(rows: int) -> TensorDictReplayBuffer:
    """A full buffer of torchrl, of rows like those of ``replay.filled``."""
    sampler = SliceSampler(slice_len=LENGTH, end_key="is_last", strict_length=True, cache_values=False)
    buffer = TensorDictReplayBuffer(
        storage=LazyTensorStorage(rows, device="cpu"), sampler=sampler, batch_size=BATCH * LENGTH
    )
    step = 1_000_000
    for first in range(0, rows, step):
        buffer.extend(peer_rows(np.arange(first, min(rows, first + step))))
    return buffer


def peer_rows(numbers: np.ndarray) -> TensorDict:
    """Rows of an episode each 501, by their numbers."""
    many, place = len(numbers), torch.from_numpy(numbers % EPISODE)
    return TensorDict(
        {
            "obs": torch.ones(many, 24),
            "action": torch.ones(many, 6),
            "reward": torch.ones(many),
            "is_first": place == 0,
            "is_last": place == EPISODE - 1,
            "is_terminal": torch.zeros(many, dtype=torch.bool),
        },
        batch_size=[many],
    )


def measure(rows: int, rounds: int) -> dict[str, float]:
    """Milliseconds of a batch of each, in turns."""
    ours, theirs = filled(VECTOR, None, "within", rows), peer(rows)
    row, request, written = row_to_add(VECTOR, None), BatchRequest(BATCH, LENGTH), rows
    times: dict[str, list[float]] = {"worldflux": [], "torchrl": []}
    for _ in range(rounds + 3):
        ours.add(*row)
        start = time.perf_counter()
        batch = ours.sample(request)
        times["worldflux"].append((time.perf_counter() - start) * 1e3)
        assert batch.obs["obs"].shape == (BATCH, LENGTH, 24)
        theirs.extend(peer_rows(np.arange(written, written + STREAMS)))
        written += STREAMS
        start = time.perf_counter()
        found = theirs.sample()
        times["torchrl"].append((time.perf_counter() - start) * 1e3)
        assert found["obs"].shape == (BATCH * LENGTH, 24)
    kept = {name: taken[3:] for name, taken in times.items()}  # what is made at first use is made
    out = {f"{name}_median_ms": median(taken) for name, taken in kept.items()}
    out |= {f"{name}_least_ms": min(taken) for name, taken in kept.items()}
    return out | {"torchrl_to_worldflux": out["torchrl_median_ms"] / out["worldflux_median_ms"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--record", action="store_true", help="keep the results in docs/results")
    args = parser.parse_args()
    for rows in args.rows:
        case = {"case": f"{rows} rows", "rows": rows, **measure(rows, args.rounds)}
        print(case, flush=True)
        if args.record:
            record(
                "replay-torchrl",
                case=case,
                key="case",
                what="Milliseconds of a batch of 16 sequences of 64 vector rows after a write of 16 rows, in turns",
                command="OMP_NUM_THREADS=1 python benchmarks/replay_torchrl.py --record",
                peer={name: version(name) for name in ("torchrl", "tensordict")},
            )


if __name__ == "__main__":
    main()
