"""What a run on recorded clips makes of V-JEPA 2's presets."""

from __future__ import annotations

import pytest
import torch

import worldflux
from worldflux import ActionSpec, ModalityKind, ModalitySpec
from worldflux.data import DatasetWriter


@pytest.fixture
def trained(clips, tmp_path):
    """Train ``vjepa2:tiny``, smaller, on a few recorded clips without actions and rewards."""
    small: dict = {"patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 2}
    small |= {"pred_embed_dim": 24, "pred_depth": 1, "pred_num_heads": 2}
    images = {"obs": ModalitySpec(ModalityKind.IMAGE, (3, 16, 16), "uint8")}
    with DatasetWriter(tmp_path / "set", images, ActionSpec("none"), rewards=False) as writer:
        for clip in clips(4, 8).numpy():
            writer.append({"obs/obs": clip})
    options = {"held_out": 0.0, "eval_every": 0, "save_every": 0, "threads": 1, "model_options": small}
    return worldflux.fit("vjepa2:tiny", data=tmp_path / "set", run=tmp_path / "run", updates=3, **options)


def test_a_run_on_recorded_clips_trains_by_the_presets_recipe(trained):
    preset = worldflux.get_config("vjepa2:tiny")
    for name in ("learning_rate", "warmup_steps", "scheduler", "weight_decay", "batch_size"):
        assert getattr(trained.settings, name) == getattr(preset, name), name
    assert preset.scheduler == "cosine"
    assert (trained.settings.sequence_length, trained.settings.boundary) == (8, "within")


def test_every_update_of_a_run_moves_the_target_encoder_a_little_towards_the_encoder(trained):
    model = trained.model
    begun = type(model)(model.config)
    assert int(model.updates) == 3
    begun, target, now = (
        torch.cat([weights.flatten() for weights in part.state_dict().values()])
        for part in (begun.observation_encoder, model.target_encoder, model.observation_encoder)
    )
    moved = (target - begun).norm() / (now - begun).norm()
    assert 0 < moved < 1 - model.config.ema_decay**3
