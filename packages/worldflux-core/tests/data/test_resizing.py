"""Recorded images in another size: what a model sees of an environment at that size, it sees of data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from worldflux import ActionSpec, ModalitySpec
from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import vector
from worldflux.data import ActionBounds, Dataset, EpisodeTable, Recording, convert, open_dataset
from worldflux.data.resizing import resized
from worldflux.envs.pixels import resize


def recorded(*, images: bool = True) -> Dataset:
    """Two episodes of four and six rows, seen by a camera of 12 × 20 pixels."""
    rng = np.random.default_rng(0)
    camera = {"camera": ModalitySpec("image", (3, 12, 20), "uint8")} if images else {}
    columns = {"obs/state": rng.normal(size=(10, 2)).astype(np.float32), "action": np.zeros((10, 1), np.float32)}
    if images:
        columns["obs/camera"] = rng.integers(0, 256, (10, 3, 12, 20), np.uint8)
    table, specs = EpisodeTable.of(["a", "b"], [4, 6]), {"state": vector(2), **camera}
    about = "memory", Path("seen"), specs, ActionSpec("continuous", 1), table, columns
    return Dataset(Recording(*about, action_bounds=ActionBounds((-2.0,), (2.0,))))


def test_images_are_resized_as_those_of_an_environment_and_nothing_else_is():
    data, small = recorded(), resized(recorded(), 8)
    assert small.obs_spec["camera"].shape == (3, 8, 8)
    for name in ("obs/state", "action"):
        np.testing.assert_array_equal(small.column(name, 1), data.column(name, 1))
    expected = np.stack([resize(image, 8) for image in data.column("obs/camera", 1)])
    np.testing.assert_array_equal(small.column("obs/camera", 1), expected)
    assert small.windows(3).sample(5).obs["camera"].shape == (5, 3, 3, 8, 8)
    assert small.episodes.ids == data.episodes.ids
    assert small.action_bounds == data.action_bounds


def test_another_size_is_other_data_and_the_same_size_the_same():
    assert resized(recorded(), 8).fingerprint != recorded().fingerprint
    once = resized(recorded(), 8)
    assert resized(once, 8) is once


def test_data_without_images_is_not_resized():
    with pytest.raises(ConfigurationError, match=r"image_size is 8, but .* shows no image, only \['state'\]"):
        resized(recorded(images=False), 8)


def test_resized_images_are_converted_as_they_are_seen(tmp_path):
    small = resized(recorded(), 8)
    convert(small, tmp_path / "set")
    written = open_dataset(tmp_path / "set")
    np.testing.assert_array_equal(written.column("obs/camera", 0), small.column("obs/camera", 0))
    assert not list(written.recording.verify())
