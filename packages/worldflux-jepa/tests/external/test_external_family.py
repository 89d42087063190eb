"""A frozen encoder as a model of its own: it sees, is measured, and imagines nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from worldflux import ActionSpec, Batch, CapabilityError, ConfigurationError, ModalitySpec
from worldflux.data import Dataset, EpisodeTable, Recording
from worldflux.evals import evaluate_horizon
from worldflux_jepa.external import External, ExternalConfig

SMALL = {
    "encoder": "patches",
    "encoder_config": {"patch_size": 8, "hidden_size": 32, "image_size": 32},
    "image_size": 32,
    "obs_shape": (3, 32, 32),
    "action_dim": 2,
}


def build(**more):
    return External(ExternalConfig(**{**SMALL, **more}))


def image(*lead):
    return torch.randint(0, 256, (*lead, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_its_latent_is_what_the_encoder_gives():
    model = build()
    assert torch.equal(model.encode(image(2))["latent"], model.observation_encoder.features({"obs": image(2)}))
    assert build(pool="patches").encode(image(2))["latent"].shape == (2, 16, 32)
    assert build(latent_dim=5).encode(image(2))["latent"].shape == (2, 5)


def test_it_imagines_nothing():
    model = build()
    state = model.encode(image(2))
    with pytest.raises(CapabilityError, match="dynamics"):
        model.transition(state, torch.zeros(2, 2))
    with pytest.raises(CapabilityError):
        model.rollout(state, torch.zeros(3, 2, 2))


def test_without_a_latent_of_its_own_it_learns_nothing():
    with pytest.raises(CapabilityError, match="latent_dim"):
        build().loss(Batch(obs=image(2, 3), actions=torch.zeros(2, 3, 2)))


def test_vectors_are_refused():
    with pytest.raises(ConfigurationError, match="images alone"):
        ExternalConfig(encoder="patches", obs_shape=(4,))


def test_without_a_source_the_place_where_it_is_published_is_named():
    with pytest.raises(ConfigurationError, match="facebook/dinov2-small"):
        External(ExternalConfig(encoder="dinov2"))


def test_code_of_strangers_is_refused():
    with pytest.raises(ConfigurationError, match="never run"):
        ExternalConfig.from_dict({"trust_remote_code": True})


def test_the_folder_of_another_class_is_refused(folder):
    with pytest.raises(ConfigurationError, match="external:dinov2"):
        External(ExternalConfig(encoder="vit", source=str(folder())))


def recorded(episodes=12, rows=8):
    """Pictures of a bright square, and where it is."""
    rng, count = np.random.default_rng(0), episodes * rows
    place = rng.integers(4, 28, size=(count, 2))
    pictures = np.zeros((count, 3, 32, 32), np.uint8)
    for picture, (row, column) in zip(pictures, place):
        picture[:, row - 3 : row + 3, column - 3 : column + 3] = 255
    columns = {
        "obs/obs": pictures,
        "action": np.zeros((count, 2), np.float32),
        "info/place": place.astype(np.float32),
    }
    return Dataset(
        Recording(
            "squares",
            Path("squares"),
            {"obs": ModalitySpec("image", (3, 32, 32), "uint8")},
            ActionSpec("continuous", 2),
            EpisodeTable.of(range(episodes), [rows] * episodes),
            columns,
            {"place": ModalitySpec("vector", (2,))},
        )
    )


def test_what_its_latents_tell_is_measured_beside_the_same_encoder_untrained():
    found = evaluate_horizon(build(pool="patches"), recorded(), context=2, horizon=5)
    assert found.curve("probes", "place", "r2", "encoded").mean.value > 0.8
    assert found.curve("probes", "place", "r2", "untrained_encoded") is not None
    assert found.curve("probes", "place", "r2", "model") is None
    assert found.told == {} and set(found.measures) == {"probes"}


def test_data_that_names_nothing_to_read_out_is_refused():
    data = recorded()
    blind = Dataset(
        Recording("blind", Path("blind"), data.obs_spec, data.action_spec, data.episodes, data.recording.columns)
    )
    with pytest.raises(CapabilityError, match="no dynamics"):
        evaluate_horizon(build(), blind, context=2, horizon=5)
