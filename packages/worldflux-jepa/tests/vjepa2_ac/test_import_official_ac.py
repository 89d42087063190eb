"""Official weights of V-JEPA 2-AC: whole or not at all, and what is another model's is said by name."""

from __future__ import annotations

import pytest
import torch

from worldflux import ConfigurationError, import_weights

from .conftest import ARM, SIZES, actions, observation

SETTINGS = {"img_size": [16, 24], "num_heads": 2, "predictor_heads": 2, "window": 5}
PARTS = {"observation_encoder": "encoder", "dynamics_model": "predictor"}


@pytest.fixture
def official(build):
    """A model and its weights as the official program would have saved them."""
    model, found = build(), {"encoder": {}, "predictor": {}}
    for name, value in model.state_dict().items():
        part, _, rest = name.partition(".")
        found[PARTS[part]][f"module.{rest}"] = value.clone()
    return model, found


def load(weights, **more):
    return import_weights(weights, importer="official-vjepa2-ac", config={**SETTINGS, **more})


def test_weights_become_the_same_model(official):
    model, weights = official
    ours = load(weights)
    seen, done = observation(model, 2), actions(model, 2)
    wanted = model.transition(model.encode(seen), done)
    got = ours.transition(ours.encode(seen), done)
    assert all(torch.equal(got[name], value) for name, value in wanted.tensors.items())
    assert (ours.config.depth, ours.config.predictor_depth) == (SIZES["depth"], SIZES["predictor_depth"])
    assert ours.config.vectors == tuple(name for name in ARM["observation_modalities"] if name != "image")


def test_the_part_that_encodes_can_be_chosen(official):
    _, weights = official
    average = {name: value + 1 for name, value in weights["encoder"].items()}
    both = {**weights, "target_encoder": average}
    name = "patch_embed.proj.bias"
    assert torch.equal(load(both).observation_encoder.state_dict()[name], average[f"module.{name}"])
    chosen = load(both, which="encoder").observation_encoder.state_dict()[name]
    assert torch.equal(chosen, weights["encoder"][f"module.{name}"])


@pytest.mark.parametrize("part", ["encoder", "predictor"])
def test_a_missing_or_unknown_name_is_refused(official, part):
    _, weights = official
    names = sorted(weights[part])
    with pytest.raises(ConfigurationError, match="lack"):
        load({**weights, part: {n: v for n, v in weights[part].items() if n != names[0]}})
    with pytest.raises(ConfigurationError, match="stray"):
        load({**weights, part: {**weights[part], "module.stray": torch.zeros(1)}})


def test_weights_of_another_shape_are_refused(official):
    _, weights = official
    wrong = {**weights["predictor"], "module.predictor_norm.weight": torch.ones(3)}
    with pytest.raises(ConfigurationError, match="predictor_norm"):
        load({**weights, "predictor": wrong})


def test_a_predictor_without_actions_is_v_jepa_2s(official):
    _, weights = official
    plain = {n: v for n, v in weights["predictor"].items() if "action_encoder" not in n}
    with pytest.raises(ConfigurationError, match="official-vjepa2"):
        load({**weights, "predictor": plain})


def test_an_unknown_setting_is_refused(official):
    with pytest.raises(ConfigurationError, match="Did you mean 'window'"):
        load(official[1], windows=3)


def test_heads_that_no_released_model_tells_are_asked_for(official):
    with pytest.raises(ConfigurationError, match="predictor_heads"):
        load(official[1], predictor_heads=None)


def test_a_part_that_is_not_there_is_named(official):
    with pytest.raises(ConfigurationError, match="predictor"):
        load({"encoder": official[1]["encoder"]})
