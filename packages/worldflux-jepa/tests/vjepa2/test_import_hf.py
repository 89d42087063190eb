"""The layout of transformers is read and written, or it is said why not."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from worldflux import CheckpointError, ConfigurationError, import_weights
from worldflux_jepa.vjepa2 import hf, hf_probe


@pytest.fixture
def model(build):
    return build()


@pytest.fixture
def folder(model, tmp_path):
    return hf.export(model, tmp_path / "folder")


@pytest.fixture
def held(folder):
    """What the folder's two files hold."""
    return json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")


def test_what_is_written_is_read_without_a_difference(model, folder):
    back = import_weights(folder, importer="hf-vjepa2")
    ours = model.state_dict()
    for name, value in back.state_dict().items():
        if not name.startswith("target_encoder."):
            assert torch.equal(value, ours[name]), name
    encoder = back.observation_encoder.state_dict()
    assert all(torch.equal(value, encoder[name]) for name, value in back.target_encoder.state_dict().items())
    assert (back.config.mask_mode, back.config.mask_index, back.config.model_name) == ("after", 1, "hf")
    assert not back.training


def test_a_mapping_needs_no_folder_and_options_of_ours_may_be_chosen(held):
    about, weights = held
    chosen = {"mask_index": 0, "mask_mode": "before", "clip_frames": (8,)}
    config = hf.load(weights, {**about, **chosen}).config
    assert (config.mask_index, config.mask_mode, config.clip_frames) == (0, "before", (8,))


def test_several_files_are_read_as_one(folder, held):
    _, weights = held
    names = sorted(weights)
    for number, part in enumerate((names[::2], names[1::2]), 1):
        save_file({name: weights[name] for name in part}, folder / f"model-0000{number}-of-00002.safetensors")
    whole = hf.load(folder)
    (folder / "model.safetensors").unlink()
    split = hf.load(folder).state_dict()
    assert all(torch.equal(value, split[name]) for name, value in whole.state_dict().items())


@pytest.mark.parametrize("name", ["encoder.layer.1.attention.key.bias", hf.MASK_TOKENS, "predictor.proj.weight"])
def test_a_missing_weight_is_named(held, name):
    about, weights = held
    del weights[name]
    with pytest.raises(ConfigurationError, match=f"lack.*{name}"):
        hf.load(weights, about)


def test_an_unknown_weight_is_named(held):
    about, weights = held
    with pytest.raises(ConfigurationError, match=r"hold \['encoder.layer.0.ls1'\].*no part"):
        hf.load({**weights, "encoder.layer.0.ls1": torch.zeros(1)}, about)


@pytest.mark.parametrize("name", ["encoder.img_mod_embed", "encoder.embeddings.patch_embeddings_img.proj.bias"])
def test_weights_of_2_1_are_refused_by_name(held, name):
    about, weights = held
    with pytest.raises(ConfigurationError, match=rf"V-JEPA 2\.1 \(it has '{name}'\)"):
        hf.load({**weights, name: torch.zeros(24)}, about)


def test_a_weight_of_another_shape_is_named(held):
    about, weights = held
    with pytest.raises(ConfigurationError, match=r"encoder\.layernorm\.bias' has shape \(7,\)"):
        hf.load({**weights, "encoder.layernorm.bias": torch.zeros(7)}, about)
    with pytest.raises(ConfigurationError, match="do not go together"):
        hf.load({**weights, "encoder.layer.0.attention.key.weight": torch.zeros(24, 7)}, about)
    with pytest.raises(ConfigurationError, match="mask_tokens.*pred_num_mask_tokens is 3"):
        hf.load({**weights, hf.MASK_TOKENS: torch.zeros(2, 1, 1, 24)}, about)


@pytest.mark.parametrize("option", ["num_hidden_layers", "pred_num_hidden_layers"])
def test_another_depth_than_the_config_says_is_named(held, option):
    about, weights = held
    with pytest.raises(ConfigurationError, match=f"{option} = 9, but the weights have"):
        hf.load(weights, {**about, option: 9})


def test_one_weight_by_two_names_is_refused(held):
    about, weights = held
    with pytest.raises(ConfigurationError, match="twice, by its names of transformers 4 and 5"):
        hf.load({**weights, "encoder.layers.0.attention.q_proj.bias": torch.zeros(24)}, about)


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("model_type", "dinov2", "model_type 'dinov2', expected 'vjepa2'"),
        ("model_type", "vjepa2_1", "V-JEPA 2.1, another architecture"),
        ("hidden_act", "silu", "hidden_act 'silu' is not supported"),
        ("hidden_size", "wide", "embed_dim"),
        ("num_attention_heads", 4, "heads of 6 channels are too narrow"),
        ("crop_size", 18, "18 x 18 pixels"),
    ],
)
def test_other_architectures_are_refused_by_name(held, option, value, word):
    about, weights = held
    with pytest.raises(ConfigurationError, match=word):
        hf.load(weights, {**about, option: value})


def test_options_beside_a_folder_are_ours_alone(folder):
    with pytest.raises(ConfigurationError, match="unknown option 'hidden_size' beside a folder"):
        hf.load(folder, {"hidden_size": 24})


def test_a_folder_that_is_none_is_refused(folder, tmp_path):
    with pytest.raises(CheckpointError, match="no folder of a V-JEPA 2"):
        hf.load(tmp_path / "absent")
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="model.safetensors cannot be read"):
        hf.load(folder)
    (folder / "config.json").write_text("[")
    with pytest.raises(CheckpointError, match="config.json cannot be read"):
        hf.load(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="holds a list"):
        hf.load(folder)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"rope_layout": "standard"}, "rope_layout 'standard'"),
        ({"obs_shape": (3, 16, 24)}, "16 x 24 pixels: transformers takes squares"),
        ({"predictor_eps": 1e-5}, "transformers has one for both"),
    ],
)
def test_what_transformers_cannot_be_is_not_written(build, tmp_path, options, word):
    with pytest.raises(ConfigurationError, match=f"cannot be written for transformers.*{word}"):
        hf.export(build(**options), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_folder_without_a_classifier_has_no_probe(folder):
    with pytest.raises(ConfigurationError, match="is this a VJEPA2ForVideoClassification"):
        hf_probe.load_probe(folder)


def test_a_probe_of_transformers_that_lacks_a_weight_is_named():
    with pytest.raises(ConfigurationError, match="lacks the 'cross_attn.v_proj.' tensor"):
        hf_probe.load_probe(
            {
                "classifier.weight": torch.zeros(2, 24),
                "pooler.cross_attention_layer.cross_attn.k_proj.bias": torch.zeros(24),
            },
            {"hidden_size": 24, "num_attention_heads": 2},
        )
