"""Small models of the family jepa, and batches of noise for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import worldflux
from worldflux import Batch
from worldflux_jepa.jepa import JEPA

ADALN = {"predictor": "adaln", "history": 3, "heads": 2, "head_dim": 8, "depth": 2, "mlp_units": 32}
CONCAT = {"predictor": "concat", "history": 3, "heads": 2, "head_dim": 8, "depth": 2, "mlp_units": 32}
PATCHES = {
    "observation_modalities": {"image": {"shape": (3, 32, 32)}, "speed": {"shape": (2,)}},
    "encoder": "vit",
    "patches": True,
    "patch_size": 16,
    "encoder_units": 16,
    "encoder_heads": 2,
    "encoder_depth": 1,
    "encoder_mlp": 32,
    "vector_units": 8,
}
KINDS = {
    "mlp": {},
    "mlp with a window": {"history": 3},
    "gru": {"predictor": "gru"},
    "adaln": ADALN,
    "adaln, wider inside, with a head": {**ADALN, "units": 24, "head_units": 32},
    "adaln over patches": {**ADALN, **PATCHES},
    "concat": CONCAT,
    "concat over patches": {**CONCAT, **PATCHES},
}


@pytest.fixture
def build() -> Callable[..., JEPA]:
    """Builds a small model with the options given, in evaluation mode; what starts at zero is shaken."""

    def make(**options) -> JEPA:
        shape = {} if {"obs_shape", "observation_modalities"} & set(options) else {"obs_shape": (5,)}
        given = {"action_dim": 2, "latent_dim": 16, "units": 16, "projector_units": 32, **shape, **options}
        model = worldflux.create_world_model("jepa:ci", **given)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for value in model.parameters():
                value.add_(0.05 * torch.randn(value.shape, generator=generator))
        return model.eval()

    return make


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> dict:
    """The options of each kind of predictor."""
    return KINDS[request.param]


@pytest.fixture
def noise_batch() -> Callable[..., Batch]:
    """Makes a batch of noise for a model."""

    def make(model: JEPA, size: int = 4, rows: int = 6, seed: int = 0, **more) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        obs = {}
        for name, spec in model.config.modalities.items():
            drawn = torch.rand(size, rows, *spec.shape, generator=generator)
            obs[name] = drawn * 255 if spec.kind.value == "image" else drawn
        actions = torch.rand(size, rows, model.config.action_dim, generator=generator) * 2 - 1
        return Batch(obs=obs, actions=actions, **more)

    return make
