"""What cannot work is refused where it is said, with what to do."""

from __future__ import annotations

import pytest
import torch

import worldflux
from worldflux import Batch, ConfigurationError, ShapeMismatchError, ValidationError

IMAGE = {"kind": "image", "shape": (3, 32, 32)}
VIT = {"encoder": "vit", "patch_size": 16, "encoder_units": 16, "encoder_heads": 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "online", "regulariser": "none"}, "target='online' with regulariser='none' must collapse"),
        ({"target": "online", "sigreg_weight": 0.0}, "must collapse"),
        ({"obs_shape": (3, 30, 32), **VIT}, "30x32 pixels are no whole patches of 16"),
        ({"obs_shape": (3, 32, 32), **VIT, "encoder_heads": 3}, "must be divisible by 3 encoder_heads"),
        ({"obs_shape": (3, 4, 4)}, "vanish in 3 halvings: at least 8"),
        ({"obs_shape": (3, 32, 32), "patches": True}, "patches are those of encoder='vit', not of 'cnn'"),
        ({"obs_shape": (6,), **VIT, "patches": True}, "no image to observe"),
        ({"observation_modalities": {"a": IMAGE, "b": {**IMAGE, "shape": (3, 64, 64)}}}, "images must have one size"),
        ({"observation_modalities": {"past": {"shape": (3,)}}}, "observation 'past' needs another name"),
        ({"obs_shape": (4, 32, 32), "image_mean": (0.5, 0.5, 0.5)}, "image_mean has 3 numbers for 4 channels"),
        ({"obs_shape": (3, 32, 32), "encoder": "features"}, "takes one observation"),
        ({"obs_shape": (6,), "tokens": 4}, "tokens=4 is for encoder='external'"),
        ({"obs_shape": (6,), "projector": "none"}, "projector='none' needs latent_dim=64, as wide|projector='none'"),
        ({"obs_shape": (6,), "predictor": "gru", "history": 3}, "set history=1, got 3"),
        ({"obs_shape": (6,), "units": 0}, "predictor='mlp' needs units"),
        ({"obs_shape": (6,), "head_inputs": 8}, "head_inputs is of the head"),
        ({"obs_shape": (6,), "action_mean": (0.0,), "action_dim": 2}, "one number for each of 2 actions, got 1"),
        ({"obs_shape": (6,), "action_std": (0.0, 1.0), "action_dim": 2}, "action_std"),
        ({"obs_shape": (6,), "normalise_actions": True, "action_mean": (0.0, 0.0), "action_dim": 2}, "leave"),
        ({"obs_shape": (6,), "action_type": "none"}, "not from 'none' actions"),
        ({"obs_shape": (6,), "regulariser": "sigregg"}, "regulariser"),
        ({"obs_shape": (6,), "sigreg_wait": 1.0}, "sigreg_weight"),
    ],
)  # fmt: skip
def test_options_that_cannot_work_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        worldflux.create_world_model("jepa:ci", **{"latent_dim": 32, **options})


def test_vectors_leave_room_in_each_latent():
    shown = {"image": IMAGE, "speed": {"shape": (2,)}}
    with pytest.raises(ConfigurationError, match="latent_dim 8 must be larger than vector_units 8"):
        worldflux.create_world_model(
            "jepa:ci", observation_modalities=shown, **VIT, patches=True, latent_dim=8, vector_units=8
        )


def test_a_clip_shorter_than_the_window_is_refused(build, noise_batch):
    model = build(history=3, rollout_steps=2)
    assert torch.isfinite(model.loss(noise_batch(model, rows=5)).loss)
    with pytest.raises(
        ValidationError, match=r"a clip of 4 rows is shorter than the window: .*needs 5.*sequence_length"
    ):
        model.loss(noise_batch(model, rows=4))


def test_time_and_batch_in_each_others_place_are_refused(build, noise_batch):
    model = build(history=3, rollout_steps=2)
    batch = noise_batch(model, size=2, rows=6)
    turned = Batch(obs={"obs": batch.obs["obs"].transpose(0, 1)}, actions=batch.actions.transpose(0, 1))
    with pytest.raises(ValidationError, match=r"is the batch \[B, T, ...\]\?"):
        model.loss(turned)


def test_time_and_channels_in_each_others_place_are_refused(build):
    model = build(obs_shape=(3, 32, 32))
    obs, actions = torch.zeros(4, 6, 3, 32, 32), torch.zeros(4, 6, 2)
    with pytest.raises(ValidationError, match=r"'obs'.*3, 32, 32.*4, 3, 6, 32, 32"):
        model.loss(Batch(obs={"obs": obs.transpose(1, 2)}, actions=actions))


def test_images_of_another_size_are_refused_with_both(build):
    model = build(obs_shape=(3, 32, 32))
    with pytest.raises(ShapeMismatchError, match=r"3, 32, 32.*3, 64, 64"):
        model.encode({"obs": torch.zeros(2, 3, 64, 64)})


@pytest.mark.parametrize("regulariser", ["sigreg", "vicreg"])
def test_a_batch_too_small_for_the_regulariser_is_refused(build, noise_batch, regulariser):
    model = build(regulariser=regulariser)
    with pytest.raises(ValidationError, match="needs the statistics of a batch, got 1"):
        model.loss(noise_batch(model, size=1))


def test_an_encoder_that_gives_another_number_of_latents_is_refused(build):
    model = build()
    other = torch.nn.Linear(5, 16)
    other.encode = lambda obs: worldflux.State({"latent": other(obs["obs"]).unsqueeze(-2)})
    model.set_component("observation_encoder", other)
    with pytest.raises(ConfigurationError, match=r"must give a 'latent' \(2, 16\), got \(2, 1, 16\)"):
        model.encode({"obs": torch.zeros(2, 5)})


def test_a_predictor_that_gives_another_shape_is_refused(build):
    model = build()
    other = torch.nn.Linear(16, 8)
    other.transition = lambda state, conditioned, deterministic=False: worldflux.State(
        {"latent": other(state["latent"])}
    )
    model.set_component("dynamics_model", other)
    state = model.encode({"obs": torch.zeros(2, 5)})
    with pytest.raises(ConfigurationError, match=r"must give a 'latent' \(2, 16\), got \(2, 8\)"):
        model.transition(state, torch.zeros(2, 2))
