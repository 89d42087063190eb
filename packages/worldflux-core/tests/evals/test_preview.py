"""Pictures of recorded episodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.data import Dataset, EpisodeTable, Recording
from worldflux.evals import contact_sheet, episode_animation

image_module = pytest.importorskip("PIL.Image")


@pytest.fixture
def dataset() -> Dataset:
    """Two episodes, red and blue pictures, of 3 and 5 rows."""
    colours = np.zeros((8, 3, 4, 4), np.uint8)
    colours[:3, 0] = 255
    colours[3:, 2] = 255
    columns = {"obs/eye": colours, "obs/state": np.arange(16, dtype=np.float32).reshape(8, 2)}
    specs = {"eye": ModalitySpec("image", (3, 4, 4), "uint8"), "state": ModalitySpec("vector", (2,))}
    table = EpisodeTable.of("ab", [3, 5])
    return Dataset(Recording("memory", Path("here"), specs, ActionSpec("none"), table, columns))


def test_a_contact_sheet_has_a_line_for_each_episode(dataset, tmp_path) -> None:
    sheet = contact_sheet(dataset, tmp_path / "made/sheet.png", columns=4, size=32)
    pixels = np.asarray(image_module.open(sheet))
    red, blue = ((pixels == colour).all(-1).any(1) for colour in ((255, 0, 0), (0, 0, 255)))
    assert red.sum() == blue.sum() == 32 and red.argmax() < blue.argmax()


def test_an_animation_has_a_frame_for_each_row(dataset, tmp_path) -> None:
    file = episode_animation(dataset, tmp_path / "both.gif", size=16)
    with image_module.open(file) as animation:
        assert animation.n_frames >= 1  # frames that are equal are one
        pixels = np.asarray(animation.convert("RGB"))
    assert pixels.shape == (16, 36, 3)


def test_vectors_are_strips(dataset, tmp_path) -> None:
    contact_sheet(dataset, tmp_path / "strips.png", obs="state")
    file = episode_animation(dataset, tmp_path / "strips.webp", obs="state", size=40)
    with image_module.open(file) as animation:
        assert animation.n_frames == 5
    with pytest.raises(ConfigurationError, match="no observation 'eyes', only eye, state"):
        contact_sheet(dataset, tmp_path / "x.png", obs="eyes")
