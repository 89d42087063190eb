"""How long windows of a recorded dataset take, and how much memory sampling it holds.

    OMP_NUM_THREADS=1 python benchmarks/data.py vectors --rows 10000000 [--folder DIR] [--record]
    OMP_NUM_THREADS=1 python benchmarks/data.py images --gigabytes 20 --images raw [--folder DIR] [--record]

``vectors``: the median of a batch of 16 windows of 64 rows (24 + 6 floats, a reward; the ``Batch`` of torch tensors
included) from a memory-mapped dataset that is in the page cache. ``images``: frames of 64 x 64 x 3, raw or in zstd
blocks; how much more memory the process holds after so many batches, by kind: anonymous, and of mapped files. What the
system keeps in its page cache is not the process's. The dataset is made in the folder if it is not there yet.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from record import record

from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec
from worldflux.data import DatasetWriter, open_dataset

BATCH, LENGTH, EPISODE, POOL = 16, 64, 501, 97
VECTOR = ModalitySpec(ModalityKind.VECTOR, (24,))
IMAGE = ModalitySpec(ModalityKind.IMAGE, (3, 64, 64), "uint8")


def main() -> None:
    """Make the dataset if it is not there, measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=["vectors", "images"])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--gigabytes", type=float, default=20)
    parser.add_argument("--images", choices=["raw", "zstd"], default="raw")
    parser.add_argument("--batches", type=int, default=2000)
    parser.add_argument("--folder", type=Path, help="where the dataset is, or is made; else a temporary one")
    parser.add_argument("--record", action="store_true", help="keep the result in docs/results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary) / "set"
        if given.case == "vectors":
            result = vectors(folder, given.rows, given.batches)
        else:
            rows = int(given.gigabytes * 1e9 / np.prod(IMAGE.shape))
            result = images(folder, rows, given.batches, given.images)
    print(json.dumps(result, indent=2))
    if given.record:
        what = "Windows of 16 x 64 rows from a dataset at rest: milliseconds a batch, and memory held"
        command = f"OMP_NUM_THREADS=1 python benchmarks/data.py {' '.join(sys.argv[1:])}"
        bar = "10 million vector rows: < 0.2 ms; 20 GB of images: < 500 MB of anonymous and mapped memory more"
        record("data", case={**result, "command": command}, key="case", what=what, command=command, bar=bar)
    sys.exit(0 if result["passed"] else 1)


def vectors(folder: Path, rows: int, batches: int) -> dict[str, Any]:
    """Time batches of vector rows."""
    make(folder, {"state": VECTOR}, rows, "raw")
    windows = open_dataset(folder, verify=False).windows(LENGTH)
    for file in folder.glob("shards/*/*.npy"):  # into the page cache
        file.read_bytes()
    for _ in range(batches):
        windows.sample(BATCH)
    times = timed(windows, batches)
    return {
        "case": f"{rows:,} vector rows",
        "rows": len(windows.dataset),
        "shards": len(list(folder.glob("shards/*"))),
        "sample_ms": round(1000 * median(times), 4),
        "sample_ms_p95": round(1000 * sorted(times)[int(0.95 * len(times))], 4),
        "passed": median(times) < 0.0002,
    }


def images(folder: Path, rows: int, batches: int, storage: str) -> dict[str, Any]:
    """Sample batches of images and look at the memory that is held before and after."""
    make(folder, {"image": IMAGE}, rows, storage)
    windows = open_dataset(folder, verify=False).windows(LENGTH)
    before = resident()
    times = timed(windows, batches)
    after = resident()
    more = {name: round((after[name] - before[name]) / 1e6, 1) for name in after}
    return {
        "case": f"{rows * np.prod(IMAGE.shape) / 1e9:.3g} GB of images, {storage}",
        "rows": len(windows.dataset),
        "bytes_on_disk": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        "batches": batches,
        "sample_ms": round(1000 * median(times), 3),
        "resident_mb_more": more,
        "passed": sum(more.values()) < 500,
    }


def timed(windows: Any, batches: int) -> list[float]:
    """Seconds of each of so many batches."""
    times = []
    for _ in range(batches):
        began = time.perf_counter()
        windows.sample(BATCH)
        times.append(time.perf_counter() - began)
    return times


def make(folder: Path, obs_spec: dict[str, ModalitySpec], rows: int, storage: str) -> None:
    """Write ``rows`` rows in episodes of 501, drawn from a pool of 97, unless the dataset is there."""
    if (folder / "dataset.json").exists():
        return
    rng = np.random.default_rng(0)
    (name, spec), *_ = obs_spec.items()
    pool = [_episode(rng, name, spec) for _ in range(POOL)]
    with DatasetWriter(folder, obs_spec, ActionSpec("continuous", 6), images=storage) as writer:  # type: ignore[arg-type]
        for number in range(-(-rows // EPISODE)):
            writer.append(pool[number % POOL], terminal=number % 2 == 0)


def _episode(rng: np.random.Generator, name: str, spec: ModalitySpec) -> dict[str, np.ndarray]:
    reward = rng.random(EPISODE, dtype=np.float32)
    reward[0] = 0
    if spec.dtype == "uint8":  # of large pixels and a little noise, so that it compresses as pictures do
        coarse = rng.integers(0, 256, (EPISODE, 3, 8, 8), np.uint8).repeat(8, 2).repeat(8, 3)
        shown = coarse ^ rng.integers(0, 4, coarse.shape, np.uint8)
    else:
        shown = rng.standard_normal((EPISODE, *spec.shape), np.float32)
    action = rng.uniform(-1, 1, (EPISODE, 6)).astype(np.float32)
    return {f"obs/{name}": shown, "action": action, "reward": reward}


def resident() -> dict[str, int]:
    """Bytes of memory this process holds: anonymous, and pages of files that it has mapped."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    kinds = {"anonymous": "RssAnon", "mapped_files": "RssFile", "shared": "RssShmem"}
    return {kind: int(lines[name].split()[0]) * 1024 for kind, name in kinds.items()}


if __name__ == "__main__":
    main()
