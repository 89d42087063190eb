"""Pictures keep their brightness, whatever they are made of, and images are resized where they are observed."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from worldflux.core.errors import ConfigurationError, ValidationError
from worldflux.core.spec import ModalityKind
from worldflux.envs import make_env
from worldflux.envs.pixels import picture
from worldflux.envs.spaces import ObservationAdapter


@pytest.mark.parametrize(
    ("rendered", "seen"),
    [
        (np.full((4, 6, 3), 200, np.uint8), 200),
        (np.full((4, 6, 3), 0.8, np.float32), 204),
        (np.full((4, 6, 3), 1.0), 255),
        (np.full((4, 6), True), 255),
        (np.full((4, 6, 1), 9, np.uint8), 9),
    ],
    ids=["bytes", "float32", "float64", "gray booleans", "one channel"],
)
def test_a_picture_is_as_bright_as_it_was_rendered(rendered, seen):
    image = picture(rendered)
    assert (image.shape, image.dtype) == ((3, 4, 6), np.uint8)
    assert (image == seen).all()


def test_transparency_is_left_out():
    rendered = np.zeros((4, 6, 4), np.uint8)
    rendered[..., 3] = 255
    assert (picture(rendered) == 0).all()


@pytest.mark.parametrize(
    ("rendered", "words"),
    [
        (np.full((4, 6, 3), 300, np.uint16), "uint16 pixels"),
        (np.full((4, 6, 3), 3, np.int64), "int64 pixels"),
        (np.full((4, 6, 3), 200.0), "from 200 to 200"),
        (np.full((4, 6, 3), np.nan), "from nan to nan"),
        (np.zeros((3, 4, 6), np.uint8), r"shape \(3, 4, 6\)"),
        (np.zeros((4, 0, 3), np.uint8), r"shape \(4, 0, 3\)"),
        (None, "rendered nothing"),
        ([np.zeros((4, 6, 3), np.uint8)], "rendered list"),
        ("a frame", "rendered text"),
    ],
)
def test_a_picture_of_unknown_brightness_is_refused(rendered, words):
    with pytest.raises(ValidationError, match=words):
        picture(rendered)


def test_images_of_16_bits_become_256_levels_of_what_the_space_announces():
    observe = ObservationAdapter(Box(0, 4095, (2, 2, 3), np.uint16))
    assert (observe.spec["obs"].kind, observe.spec["obs"].shape) == (ModalityKind.IMAGE, (3, 2, 2))
    assert (observe([np.full((2, 2, 3), 4095, np.uint16)])["obs"] == 255).all()
    assert (observe([np.full((2, 2, 3), 2048, np.uint16)])["obs"] == 128).all()


class Seen(gymnasium.Env):
    """Shows a picture and a number."""

    observation_space = Dict({"eye": Box(0, 255, (4, 8, 3), np.uint8), "body": Box(-1, 1, (2,), np.float32)})
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        eye = np.zeros((4, 8, 3), np.uint8)
        eye[:2, :4] = 100
        return {"eye": eye, "body": np.ones(2, np.float32)}, {}


def test_image_size_resizes_the_images_there_are_and_keeps_the_rest():
    env = make_env(Seen, image_size=2)
    obs = env.reset(seed=0).obs
    assert {name: spec.shape for name, spec in env.obs_spec.items()} == {"eye": (3, 2, 2), "body": (2,)}
    assert obs["eye"][0, 0].tolist() == [[100, 0], [0, 0]] and obs["body"].tolist() == [[1, 1]]


def test_image_size_resizes_what_gymnasiums_vectors_show():
    env = make_env(gymnasium.vector.SyncVectorEnv([Seen, Seen]), image_size=2)
    assert env.reset(seed=0).obs["eye"][1, 0].tolist() == [[100, 0], [0, 0]]


def test_image_size_without_an_image_names_the_option_that_renders():
    with pytest.raises(ConfigurationError, match=r"shows obs float32\(4,\).*render_size=16"):
        make_env("CartPole-v1", image_size=16)


def test_an_environment_made_to_be_rendered_is_rendered_as_earlier_and_told_of_the_option(counter, caplog):
    class Drawn(counter):
        render_mode = "rgb_array"

        def render(self):
            return np.full((4, 4, 3), 7, np.uint8)

    env = make_env(Drawn, image_size=2)
    assert env.reset(seed=0).obs["obs"].tolist() == [[[[7, 7], [7, 7]]] * 3]
    assert "render_size=2" in caplog.text
    caplog.clear()
    make_env(Drawn, num_envs=3, image_size=2)
    assert len(caplog.records) == 1


def test_one_of_the_two_sizes_is_given():
    with pytest.raises(ConfigurationError, match="give one"):
        make_env(Seen, image_size=2, render_size=2)
