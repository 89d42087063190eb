"""``worldflux data`` and small or camera-sized sets without rewards, as robots record them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from worldflux.cli import main
from worldflux.data import open_dataset


@pytest.fixture
def recorded(tmp_path) -> Path:
    """Three episodes of a camera, as a folder of npz files without rewards."""
    place, rng = tmp_path / "recorded", np.random.default_rng(0)
    place.mkdir()
    for episode in range(3):
        image = rng.integers(0, 256, (9, 12, 20, 3), np.uint8)
        np.savez(place / f"{episode}.npz", image=image, action=rng.uniform(-1, 1, (8, 2)))
    return place


def worldflux(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main([*args])
    return int(stop.value.code or 0)


def test_inspect_says_what_learns_without_rewards(recorded, capsys) -> None:
    assert worldflux("data", "inspect", str(recorded)) == 0
    assert "no rewards: dreamer and planet learn what is seen alone" in capsys.readouterr().out


def test_convert_resizes_images(recorded, tmp_path) -> None:
    assert worldflux("data", "convert", str(recorded), str(tmp_path / "small"), "--image-size", "8") == 0
    small = open_dataset(tmp_path / "small")
    assert small.obs_spec["image"].shape == (3, 8, 8)
    assert small.column("obs/image", 2).shape == (9, 3, 8, 8)
