"""Sampling costs the same however many rows there are (``benchmarks/replay.py`` prints more)."""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import pytest

from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec
from worldflux.data import BatchRequest, Replay
from worldflux.envs import Step

STREAMS = 16


def full_replay(rows: int, boundary: str) -> Replay:
    replay = Replay(
        rows,
        obs_spec={"obs": ModalitySpec(ModalityKind.VECTOR, (24,))},
        action_spec=ActionSpec("continuous", 6),
        num_streams=STREAMS,
        boundary=boundary,
    )
    arrays, meta = replay.state_dict()
    stored = rows // STREAMS
    for name, (shape, dtype) in meta["row"].items():
        arrays[name] = np.ones((STREAMS, stored, *shape), dtype)
    arrays["is_first"][:] = np.arange(stored) % 501 == 0
    arrays["is_last"][:] = arrays["is_terminal"][:] = False
    replay.load_state_dict(arrays, meta | {"rows": stored})
    return replay


def milliseconds(*replays: Replay, repeats: int = 300) -> list[float]:
    """The median of sampling 16 sequences of 64 rows after a row of each stream was stored, as in online training.

    The replays take turns, so that whatever else the machine does slows all of them alike.
    """
    no = np.zeros(STREAMS, bool)
    obs = {"obs": np.zeros((STREAMS, 24), np.float32)}
    step, action = Step(obs, np.zeros(STREAMS, np.float32), no, no, no), np.zeros((STREAMS, 6), np.float32)
    request, times = BatchRequest(16, 64), [[] for _ in replays]
    for replay in replays:
        replay.sample(request)
    for _ in range(repeats):
        for replay, taken in zip(replays, times):
            replay.add(step, action)
            start = time.perf_counter()
            replay.sample(request)
            taken.append(time.perf_counter() - start)
    return [median(taken) * 1e3 for taken in times]


@pytest.mark.timing
@pytest.mark.parametrize("boundary", ["cross", "within"])
def test_a_batch_takes_no_longer_from_ten_times_the_rows(boundary):
    replays = [full_replay(rows, boundary) for rows in (200_000, 2_000_000)]
    # The best of three: a busy machine slows single measurements, a slow index slows all.
    pairs = [milliseconds(*replays) for _ in range(3)]
    assert min(large / small for small, large in pairs) < 1.2
    assert min(large for _, large in pairs) < 0.2
