"""How much memory a replay in mapped files keeps, and how fast it is sampled, beside one in memory.

    OMP_NUM_THREADS=1 python benchmarks/replay_memory.py [--rows 400000] [--directory DIR] [--record]

Each storage is measured in a process of its own: a replay of image rows (64 x 64 x 3) is filled, and batches of 16
sequences of 64 rows are sampled. ``resident`` is what the process holds beyond what it held before, at its most; the
system's cache of files, which it gives up where memory is needed, is not counted where it is not mapped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import numpy as np
from record import record

from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec
from worldflux.data import BatchRequest, Replay

STREAMS, EPISODE, BATCHES = 4, 500, 1_000
IMAGE = {"image": ModalitySpec(ModalityKind.IMAGE, (3, 64, 64), "uint8")}


def resident() -> int:
    """Bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(storage: str, rows: int, directory: str | None) -> dict[str, float]:
    """Resident bytes and milliseconds of a batch."""
    spec, action = {"obs_spec": IMAGE, "action_spec": ActionSpec("continuous", 2)}, np.zeros((STREAMS, 2), np.float32)
    warm = Replay(64, **spec)  # what numpy and torch load at first use is not the replay's
    one = SimpleNamespace(
        obs={"image": np.zeros((1, 3, 64, 64), np.uint8)}, reward=np.zeros(1, np.float32),
        is_first=np.ones(1, bool), is_last=np.zeros(1, bool), is_terminal=np.zeros(1, bool),
    )  # fmt: skip
    warm.add(one, action[:1])
    warm.sample(BatchRequest(16, 1))
    before = resident()
    replay = Replay(rows, **spec, num_streams=STREAMS, storage=storage, directory=directory)
    rng, most = np.random.default_rng(0), before
    no = np.zeros(STREAMS, bool)
    for row in range(rows // STREAMS):
        step = SimpleNamespace(
            obs={"image": rng.integers(0, 256, (STREAMS, 3, 64, 64), np.uint8)},
            reward=np.zeros(STREAMS, np.float32),
            is_first=no | (row % EPISODE == 0),
            is_last=no | (row % EPISODE == EPISODE - 1),
            is_terminal=no,
        )
        replay.add(step, action)
        if row % 100 == 0:
            most = max(most, resident())
    times = []
    for _ in range(BATCHES):
        start = time.perf_counter()
        replay.sample(BatchRequest(16, 64))
        times.append((time.perf_counter() - start) * 1e3)
        most = max(most, resident())
    return {"bytes": replay.nbytes, "resident_bytes": most - before, "sample_ms": median(times)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--directory", help="of the mapped files; default: the system's temporary one")
    parser.add_argument("--storage", help="measure one storage in this process, and print it as JSON")
    parser.add_argument("--record", action="store_true", help="keep the results in docs/results")
    args = parser.parse_args()
    if args.storage:
        print(json.dumps(measure(args.storage, args.rows, args.directory)))
        return
    for storage in ("ram", "mmap"):
        command = [sys.executable, __file__, "--rows", str(args.rows), "--storage", storage]
        command += ["--directory", args.directory] if args.directory else []
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        case = {"case": f"{storage}, {args.rows} rows", "storage": storage, **json.loads(done.stdout)}
        print(case, flush=True)
        if args.record:
            record(
                "replay-memory",
                case=case,
                key="case",
                what="Bytes that a full replay of image rows keeps resident, and milliseconds of 16 x 64 rows from it",
                command="OMP_NUM_THREADS=1 python benchmarks/replay_memory.py --record",
                bar="less than 500 MB resident from mapped files, whatever their size",
            )


if __name__ == "__main__":
    main()
