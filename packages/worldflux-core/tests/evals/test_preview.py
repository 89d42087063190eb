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


@pytest.mark.parametrize("name", ["sheet", "sheet.gif", "sheet.foo"])
def test_a_picture_of_no_known_kind_is_refused_before_anything_is_written(dataset, tmp_path, name) -> None:
    with pytest.raises(ConfigurationError, match=f"a picture is written as .png or .*, got '{name}'"):
        contact_sheet(dataset, tmp_path / "made" / name)
    with pytest.raises(ConfigurationError, match="an animation is written as .gif or .webp, got 'film.png'"):
        episode_animation(dataset, tmp_path / "made/film.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("draw", [contact_sheet, episode_animation])
def test_a_full_disk_leaves_the_picture_that_was_there(dataset, tmp_path, monkeypatch, draw) -> None:
    def full(self, file, *args, **options):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    place = draw(dataset, tmp_path / "a.webp")
    before = place.read_bytes()
    monkeypatch.setattr(image_module.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        draw(dataset, place)
    assert place.read_bytes() == before and list(tmp_path.iterdir()) == [place]
