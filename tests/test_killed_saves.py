"""A process that is killed while it saves over something leaves the old or the new, whole, and clears up later."""

from __future__ import annotations

import os
import random
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import worldflux
from worldflux.data import ReplayBuffer
from worldflux.data.storage import load_arrays, save_arrays

Case = tuple[Callable[[Path, int], Any], Callable[[Path], int]]


def model() -> Case:
    made = worldflux.create_world_model("tdmpc2:ci", obs_shape=(3,), action_dim=2)

    def save(place: Path, value: int) -> None:
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.fill_(value)
        made.save_pretrained(place)

    return save, lambda place: one(p for p in worldflux.WorldModel.from_pretrained(place).parameters())


def arrays() -> Case:
    def save(place: Path, value: int) -> None:
        names = "abc"[: 2 + value % 2]  # each time others than before
        save_arrays(place, {name: np.full(5, value) for name in names}, {"value": value})

    def load(place: Path) -> int:
        found, meta = load_arrays(place)
        return one([*found.values(), np.array(meta["value"])])

    return save, load


def buffer() -> Case:
    def save(place: Path, value: int) -> None:
        made = ReplayBuffer(10, (2,), 1)
        made.add_episode(np.full((4, 2), value, np.float32), np.full((4, 1), value), np.full(4, float(value)))
        place.mkdir(exist_ok=True)
        made.save(place / "buffer.npz")

    return save, lambda place: one([ReplayBuffer.load(place / "buffer.npz").sample(2, 2).obs])


def one(values: Any) -> int:
    """The one number that all arrays hold."""
    (number,) = {float(number) for value in values for number in np.asarray(value.tolist()).reshape(-1)}
    return int(number)


CASES = {"model": model, "arrays": arrays, "buffer": buffer}


def child(work: Callable[[], Any]) -> int:
    """The process that does it, forked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there are threads
        pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def names(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes")
@pytest.mark.parametrize("case", CASES)
def test_killed_before_any_change_of_a_file_the_old_or_the_new_is_whole(tmp_path, case):
    save, load = CASES[case]()
    place, seen = tmp_path / "place", set()
    save(place, 3)
    save(place, 1)
    whole = names(place)
    for moment in range(100):
        save(place, 1)

        def work(moment: int = moment) -> None:
            left = iter(range(moment))

            def dying(do: Callable[..., Any]) -> Callable[..., Any]:
                def call(*given: Any, **options: Any) -> Any:
                    if next(left, None) is None:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return do(*given, **options)

                return call

            for name in ("replace", "fsync", "unlink"):
                setattr(os, name, dying(getattr(os, name)))
            save(place, 3)

        _, status = os.waitpid(child(work), 0)
        seen.add(load(place))
        if status == 0:
            break
    else:
        pytest.fail("it never ends")
    assert moment > 2 and seen == {1, 3}
    assert load(place) == 3 and names(place) == whole


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes")
@pytest.mark.parametrize("case", CASES)
def test_killed_at_random_moments_the_old_or_the_new_is_whole(tmp_path, case):
    save, load = CASES[case]()
    place, draw = tmp_path / "place", random.Random(0)
    save(place, 1)
    for _ in range(int(os.environ.get("WORLDFLUX_KILLS", "10"))):

        def work() -> None:
            for value in range(3, 10_000, 2):
                save(place, value)

        pid = child(work)
        time.sleep(draw.uniform(0.005, 0.06))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert load(place) >= 1
        strays = [name for name in names(place) if name.startswith(".")]
        assert case == "buffer" or not strays
    save(place, 1)
    assert load(place) == 1 and not [name for name in names(place) if name.startswith(".")]
