"""Configs: what is refused, and what a refusal says."""

from __future__ import annotations

import pytest

import worldflux
from worldflux import CapabilityError, ConfigurationError
from worldflux_dreamer import DreamerV3, DreamerV3Config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deter_dim": 100, "blocks": 8}, "divisible by blocks"),
        ({"classes": 1}, "classes is 1, expected a whole number of at least 2"),
        ({"unimix": 1.5}, "unimix is 1.5, .* at most 1"),
        ({"imagination": 0}, "imagination is 0, .* at least 1"),
        ({"kernel": 4}, "odd"),
        ({"min_std": 2.0}, "below max_std"),
        ({"return_low": 95.0, "return_high": 5.0}, "percentiles must grow"),
        ({"hidden_dim": "64"}, "hidden_dim is '64', expected a whole number"),
        ({"loss_scales": {"polcy": 1.0}}, "Did you mean 'policy'"),
        ({"loss_scales": {"policy": -1.0}}, "loss_scales is"),
        ({"encoder_type": "mpl"}, "Did you mean 'mlp'"),
        ({"encoder_type": "mlp"}, "'obs' is an image"),
        ({"decoder_type": "cnn", "obs_shape": (8,)}, "needs an image"),
        ({"obs_shape": (3, 84, 84)}, "use 80x80"),
        ({"obs_shape": (3, 64, 64), "depth": 3, "decoder_blocks": 8}, "decoder_blocks 8"),
        ({"observation_modalities": {"reward": {"shape": (3,)}}}, "needs another name"),
        ({"observation_modalities": {"items": {"shape": (3,)}}}, "'items' needs another name: torch's modules"),
        ({"observation_modalities": {"_modules": {"shape": (3,)}}}, "'_modules' needs another name: torch's modules"),
        ({"multipliers": (), "obs_shape": (3, 64, 64)}, "multipliers is"),
        (
            {"action_spec": {"kind": "multi", "dim": 3, "parts": [{"name": "keys", "kind": "discrete", "dim": 3}]}},
            "action part 'keys' needs another name: torch's modules",
        ),
        (
            {"observation_modalities": {"clip": {"shape": (4, 3, 8, 8), "kind": "video"}}},
            "kind 'video', expected 'image'",
        ),
        (
            {"observation_modalities": {"a": {"shape": (3, 64, 64)}, "b": {"shape": (3, 32, 32)}}},
            "one size",
        ),
        ({"action_type": "token"}, "not 'token'"),
    ],
)
def test_impossible_choices_are_refused_with_the_way_out(options, message):
    with pytest.raises(ConfigurationError, match=message):
        DreamerV3Config(**options)


def test_earlier_names_still_work():
    config = DreamerV3Config.from_dict({"stoch_discrete": 4, "stoch_classes": 6, "cnn_depth": 8, "kl_free": 0.5})
    assert (config.stoch, config.classes, config.depth, config.free_nats) == (4, 6, 8, 0.5)
    assert (config.stoch_discrete, config.stoch_classes, config.stoch_dim) == (4, 6, 24)
    with pytest.raises(ConfigurationError, match="earlier name"):
        DreamerV3Config.from_dict({"stoch_classes": 4, "classes": 8})


def test_a_config_survives_json():
    config = DreamerV3Config.from_size("size12m", loss_scales={"rep": 0.2}, multipliers=(1, 2), obs_shape=(3, 32, 32))
    assert DreamerV3Config.from_dict(config.to_dict()) == config


def test_sizes_come_from_the_manifest_and_unknown_ones_are_named():
    assert DreamerV3Config.from_size("size200m").deter_dim == 8192
    assert DreamerV3Config.from_size("size12m", units=32).units == 32
    with pytest.raises(ConfigurationError, match=r"Unknown size: size12\. Available.*Did you mean 'size12m'"):
        DreamerV3Config.from_size("size12")


@pytest.mark.parametrize("name", ["dreamer:ci", "dreamerv3:ci", "dreamer:size1m", "dreamer-ci"])
def test_presets_are_built_by_every_name(name):
    model = worldflux.create_world_model(name, obs_shape=(8,), action_dim=2)
    assert isinstance(model, DreamerV3)


def test_an_unknown_option_is_refused_with_the_nearest_one():
    with pytest.raises(ConfigurationError, match="hidden_dim"):
        worldflux.create_world_model("dreamer:ci", obs_shape=(8,), action_dim=2, hiden_dim=3)


def test_a_world_model_without_actor_and_critic():
    model = worldflux.create_world_model("dreamer:ci", obs_shape=(8,), action_dim=2, actor_critic=False)
    assert not model.supports("policy")
    assert not any(name.startswith(("actor", "critic")) for name, _ in model.named_parameters())
    with pytest.raises(CapabilityError, match="actor_critic=False"):
        model.policy()
