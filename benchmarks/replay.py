"""How long the replay takes to sample and to store, by size and kind of data.

    OMP_NUM_THREADS=1 python benchmarks/replay.py [--json] [--record]

One line per case: the median of a batch of 16 sequences of 64 rows (the ``Batch`` of torch tensors included), its ratio
to the same data at one million rows, and the median of storing one row of each of 16 streams while the ring is full.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from types import SimpleNamespace

import numpy as np
from record import record

from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec
from worldflux.data import BatchRequest, Replay

BATCH, LENGTH, STREAMS, EPISODE = 16, 64, 16, 501
VECTOR = {"obs": ModalitySpec(ModalityKind.VECTOR, (24,))}
IMAGE = {"obs": ModalitySpec(ModalityKind.IMAGE, (3, 64, 64), "uint8")}
LATENTS = {"deter": ((512,), "float32"), "stoch": ((32, 4), "float32")}
CASES = [  # name, observations, latents, boundary, numbers of rows
    ("vector", VECTOR, None, "cross", [100_000, 1_000_000, 10_000_000]),
    ("vector within", VECTOR, None, "within", [100_000, 1_000_000, 10_000_000]),
    ("vector + latents", VECTOR, LATENTS, "cross", [100_000]),
    ("image 64x64", IMAGE, None, "cross", [100_000]),
]


def filled(obs_spec: dict, latents: dict | None, boundary: str, rows: int) -> Replay:
    """A full replay of random numbers, in episodes of 501 rows."""
    replay = Replay(
        rows,
        obs_spec=obs_spec,
        action_spec=ActionSpec("continuous", 6),
        num_streams=STREAMS,
        latent_spec=latents,
        boundary=boundary,
    )
    arrays, meta = replay.state_dict()
    stored = rows // STREAMS
    rng = np.random.default_rng(0)
    full = {}
    for name, (shape, dtype) in meta["row"].items():
        size = (STREAMS, stored, *shape)
        if dtype == "bool":
            at = {"is_first": 0, "is_last": EPISODE - 1}.get(name, -1)
            full[name] = np.broadcast_to(np.arange(stored) % EPISODE == at, size)
        else:
            block = rng.integers(0, 256, (1, min(stored, 1000), *shape)).astype(dtype)
            full[name] = np.resize(np.broadcast_to(block, (1, *block.shape[1:])), (1, stored, *shape))
            full[name] = np.broadcast_to(full[name], size)
    arrays |= full
    arrays["run_start"] = np.full(STREAMS, (stored - 1) // EPISODE * EPISODE)
    replay.load_state_dict(arrays, meta | {"rows": stored})
    return replay


def row_to_add(obs_spec: dict, latents: dict | None) -> tuple:
    """One row of every stream, in the middle of an episode."""
    spec = obs_spec["obs"]
    no = np.zeros(STREAMS, bool)
    step = SimpleNamespace(
        obs={"obs": np.zeros((STREAMS, *spec.shape), spec.dtype)},
        reward=np.zeros(STREAMS, np.float32),
        is_first=no,
        is_last=no,
        is_terminal=no,
    )
    stored = {name: np.zeros((STREAMS, *shape), dtype) for name, (shape, dtype) in (latents or {}).items()}
    return step, np.zeros((STREAMS, 6), np.float32), stored


def medians_ms(calls: list[Callable[[], object]], *, repeats: int) -> list[float]:
    """The median of each call, taken in turns so that whatever else the machine does slows all of them alike."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return [median(taken) * 1e3 for taken in times]


def measure(name: str, obs_spec: dict, latents: dict | None, boundary: str, sizes: list[int]) -> list[dict]:
    """One result for each number of rows."""
    replays = [filled(obs_spec, latents, boundary, rows) for rows in sizes]
    row = row_to_add(obs_spec, latents)
    request = BatchRequest(BATCH, LENGTH)
    samples = medians_ms([partial(replay.sample, request) for replay in replays], repeats=1000)
    adds = medians_ms([partial(replay.add, *row) for replay in replays], repeats=300)
    at_a_million = dict(zip(sizes, samples, strict=True)).get(1_000_000)
    return [
        {
            "data": name,
            "rows": len(replay),
            "bytes": replay.nbytes,
            "sample_ms": sample,
            "ratio_to_1M": sample / at_a_million if at_a_million else None,
            "add_ms": add,
        }
        for replay, sample, add in zip(replays, samples, adds, strict=True)
    ]


def keep(result: dict) -> None:
    """Put a result into docs/results/replay.json."""
    record(
        "replay",
        case={"case": f"{result['data']}, {result['rows']} rows", **result},
        key="case",
        what="Milliseconds to sample 16 sequences of 64 rows from a full replay, and to store a row of 16 streams",
        command="OMP_NUM_THREADS=1 python benchmarks/replay.py --record",
        bar="16 x 64 vector rows in < 0.2 ms at one million rows, no slower at ten million",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object per case")
    parser.add_argument("--record", action="store_true", help="keep the results in docs/results")
    args = parser.parse_args()
    as_json = args.json
    if not as_json:
        print(f"{'data':18} {'rows':>11} {'memory':>9} {'sample':>10} {'ratio':>7} {'add row':>10}")
    for case in CASES:
        for result in measure(*case):
            if args.record:
                keep(result)
            if as_json:
                print(json.dumps(result), flush=True)
                continue
            ratio = f"{result['ratio_to_1M']:.2f}" if result["ratio_to_1M"] else "-"
            print(
                f"{result['data']:18} {result['rows']:11,} {result['bytes'] / 1e9:6.2f} GB "
                f"{result['sample_ms']:7.3f} ms {ratio:>7} {result['add_ms'] * 1e3:7.1f} us",
                flush=True,
            )


if __name__ == "__main__":
    main()
