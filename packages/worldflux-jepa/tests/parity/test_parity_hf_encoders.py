"""Encoders of ``transformers``: what ours makes of a folder of theirs."""

from __future__ import annotations

import pytest

from worldflux_jepa.external import FrozenEncoder, weights_at

RECORDED = "jepa_hf_encoders"
IMAGES = ("image", "image_big", "image_rect")


def _encoders(recording):
    return {name: weights_at(recording.folder / f"jepa_hf_{name}") for name in recording.meta["folders"]}


def test_a_folder_tells_its_class_and_how_many_tokens_come_before_the_patches(recording):
    for name, weights in _encoders(recording).items():
        said = recording.meta["folders"][name]
        assert (weights.kind.class_name, weights.prefix) == (said["class"], said["prefix_tokens"])
        assert dict(weights.kind.call) == said["call_kwargs"]


@pytest.mark.parametrize("image", IMAGES)
def test_all_tokens_and_those_of_patches_alone(recording, agrees, image):
    pytest.importorskip("transformers")
    for name, weights in _encoders(recording).items():
        encoder, pixels = FrozenEncoder(weights), recording[image]
        recorded = recording[f"{name}/{image}"]
        agrees(encoder.hidden(pixels), recorded)
        agrees(encoder.patches(pixels), recorded[:, recording.meta["folders"][name]["prefix_tokens"] :])
