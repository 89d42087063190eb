"""How long the replay takes to sample and to store, by size and kind of data.

    OMP_NUM_THREADS=1 python benchmarks/replay.py [--json]

One line per case: the median of a batch of 16 sequences of 64 rows (the ``Batch`` of torch tensors included), its ratio
to the same case at one million rows, and the median of storing one row of each stream while the ring is full.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec
from worldflux.data import BatchRequest, Replay

BATCH, LENGTH, STREAMS, EPISODE = 16, 64, 16, 501
VECTOR = {"obs": ModalitySpec(ModalityKind.VECTOR, (24,))}
IMAGE = {"obs": ModalitySpec(ModalityKind.IMAGE, (3, 64, 64), "uint8")}
LATENTS = {"deter": ((512,), "float32"), "stoch": ((32, 4), "float32")}
CASES = [  # name, observations, latents, boundary, rows
    ("vector", VECTOR, None, "cross", 100_000),
    ("vector", VECTOR, None, "cross", 1_000_000),
    ("vector", VECTOR, None, "cross", 10_000_000),
    ("vector within", VECTOR, None, "within", 1_000_000),
    ("vector within", VECTOR, None, "within", 10_000_000),
    ("vector + latents", VECTOR, LATENTS, "cross", 100_000),
    ("image 64x64", IMAGE, None, "cross", 100_000),
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


def rows_to_add(replay: Replay, obs_spec: dict, latents: dict | None) -> tuple:
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


def median_ms(call: Callable[[], object], *, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object per case")
    as_json = parser.parse_args().json
    at_a_million: dict[str, float] = {}
    if not as_json:
        print(f"{'data':18} {'rows':>11} {'memory':>9} {'sample':>10} {'ratio':>7} {'add row':>10}")
    for name, obs_spec, latents, boundary, rows in CASES:
        replay = filled(obs_spec, latents, boundary, rows)
        request = BatchRequest(BATCH, LENGTH)
        replay.sample(request)  # builds the index
        sample = median_ms(lambda: replay.sample(request), repeats=1000)  # noqa: B023 (called at once)
        row = rows_to_add(replay, obs_spec, latents)
        add = median_ms(lambda: replay.add(*row), repeats=300)  # noqa: B023
        if rows == 1_000_000:
            at_a_million[name] = sample
        ratio = sample / at_a_million[name] if name in at_a_million else None
        if as_json:
            case = {"data": name, "rows": rows, "bytes": replay.nbytes, "sample_ms": sample}
            print(json.dumps(case | {"ratio_to_1M": ratio, "add_ms": add}))
        else:
            shown = f"{ratio:.2f}" if ratio else "-"
            size = f"{replay.nbytes / 1e9:.2f} GB"
            print(f"{name:18} {rows:11,} {size:>9} {sample:7.3f} ms {shown:>7} {add * 1e3:7.1f} us", flush=True)


if __name__ == "__main__":
    main()
