"""Pictures are scaled by their short edge, cut to the middle, and standardised by channel."""

from __future__ import annotations

import pytest
import torch

from worldflux import CheckpointError
from worldflux_jepa.external.kinds import KINDS
from worldflux_jepa.external.preprocess import PixelRules, cropped, rules_of, scaled

PLAIN = {"mean": torch.zeros(3, 1, 1), "std": torch.ones(3, 1, 1)}


def test_the_short_edge_is_scaled_and_the_other_one_in_proportion():
    assert scaled(torch.rand(1, 3, 20, 40), 10, "bilinear").shape == (1, 3, 10, 20)
    assert scaled(torch.rand(1, 3, 33, 20), 10, "bilinear").shape == (1, 3, 16, 10)


def test_a_picture_of_that_size_is_left_as_it_is():
    x = torch.rand(1, 3, 10, 30)
    assert scaled(x, 10, "bicubic") is x


def test_the_middle_is_cut_out():
    x = torch.arange(24.0).reshape(1, 1, 4, 6)
    assert torch.equal(cropped(x, 2), x[..., 1:3, 2:4])


def test_bytes_become_standardised_numbers():
    rules = PixelRules(2, 2, (0.5, 0.0, 0.0), (0.25, 1.0, 1.0))
    image = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    seen = rules(image, torch.tensor(rules.mean).reshape(3, 1, 1), torch.tensor(rules.std).reshape(3, 1, 1))
    assert torch.allclose(seen[0, :, 0, 0], torch.tensor([2.0, 1.0, 1.0]))


def test_the_edge_is_eight_sevenths_of_the_crop_unless_a_size_is_asked_for():
    rules = rules_of(KINDS["dinov2"], {"image_size": 224}, {})
    assert (rules.size, rules.short_edge) == (224, 256)
    assert (rules.sized(56).size, rules.sized(56).short_edge) == (56, 56)


def test_what_the_processor_file_says_goes_before_the_config():
    said = {"crop_size": {"height": 32, "width": 32}, "image_mean": [0.1] * 3, "image_std": [0.2] * 3, "resample": 3}
    rules = rules_of(KINDS["vit"], {"image_size": 224}, said)
    assert (rules.size, rules.mean, rules.std, rules.mode) == (32, (0.1,) * 3, (0.2,) * 3, "bicubic")


def test_a_deviation_of_zero_is_refused():
    with pytest.raises(CheckpointError, match="image_std"):
        rules_of(KINDS["vit"], {}, {"image_std": [0.0, 1.0, 1.0]})
