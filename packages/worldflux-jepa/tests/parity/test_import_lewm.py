"""LeWM's weights load as they are published, and nothing else does."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

import worldflux
from worldflux import CheckpointError, ConfigurationError
from worldflux_jepa.jepa import JEPA, JEPAConfig
from worldflux_jepa.jepa.official import load, official_names

RECORDED = "jepa_lewm"


@pytest.fixture
def weights(recording) -> dict[str, Tensor]:
    return recording.below("weights/")


@pytest.fixture
def settings(recording) -> dict:
    config = recording.meta["config"]
    predictor = {"heads": config["predictor"]["heads"], "dim_head": config["predictor"]["dim_head"]}
    return {
        "encoder": {"num_attention_heads": config["encoder"]["num_attention_heads"]},
        "predictor": predictor,
        "image_mean": [0.0],
        "image_std": [1 / 255],
    }


@pytest.fixture
def folder(recording, weights, tmp_path) -> Path:
    """A checkpoint of the recording's weights: the one beside it, or one written here."""
    given = recording.folder / f"{recording.name}_ckpt"
    if given.is_dir():
        shutil.copytree(given, tmp_path / "ckpt")
        return tmp_path / "ckpt"
    config = recording.meta["config"]
    (tmp_path / "ckpt").mkdir()
    encoder = {key: value for key, value in config["encoder"].items() if isinstance(value, int) and key != "qkv_bias"}
    encoder.pop("layer_norm_eps", None)
    told = {"_target_": "stable_worldmodel.wm.lewm.LeWM", "encoder": encoder, "predictor": config["predictor"]}
    (tmp_path / "ckpt/config.json").write_text(json.dumps(told))
    torch.save(weights, tmp_path / "ckpt/weights.pt")
    return tmp_path / "ckpt"


def later(name: str, recording) -> str:
    return recording.meta["key_layout"]["transformers_5.x"].get(name, name)


def test_a_folder_as_it_is_published(recording, folder, settings, weights, agrees):
    model = worldflux.import_weights(
        folder, importer="official-lewm", config={k: settings[k] for k in ("image_mean", "image_std")}
    )
    agrees(model.encode({"obs": recording["pixels"][:, 0]})["latent"], recording["eval/emb"][:, 0], tolerance=5e-5)
    assert set(official_names(model)) == set(weights)
    assert not model.training


def test_the_file_alone_with_the_settings_beside_it(folder, weights):
    state, names = load(folder / "weights.pt"), None
    names = official_names(state)
    own = state.state_dict()
    assert all(torch.equal(own[ours].flatten(), weights[theirs].flatten()) for theirs, ours in names.items())


def test_the_names_of_transformers_5(recording, weights, settings):
    assert any(later(name, recording) != name for name in weights)
    model = load({later(name, recording): value for name, value in weights.items()}, settings)
    assert not worldflux.blocks.compare_states(model, load(weights, settings))


def test_a_weight_under_both_its_names_is_refused(recording, weights, settings):
    name = next(name for name in weights if later(name, recording) != name)
    both = {**weights, later(name, recording): weights[name]}
    with pytest.raises(ConfigurationError, match="one weight under two names"):
        load(both, settings)


@pytest.mark.parametrize("name", ["predictor.pos_embedding", "pred_proj.net.1.running_var", "encoder.layernorm.bias"])
def test_a_weight_that_is_missing_is_named(weights, settings, name):
    del weights[name]
    with pytest.raises(ConfigurationError, match=re.escape(name)):
        load(weights, settings)


def test_a_weight_too_many_is_named_beside_the_nearest(weights, settings):
    weights["predictor.transformer.norm.wait"] = torch.zeros(2)
    with pytest.raises(ConfigurationError, match=r"'predictor.transformer.norm.wait'.*belong to no part"):
        load(weights, settings)


def test_a_weight_of_another_shape_is_named_with_both(weights, settings):
    name = "predictor.transformer.layers.0.mlp.net.4.weight"
    weights[name] = weights[name][:, 1:]
    with pytest.raises(ConfigurationError, match=rf"{re.escape(name)}.*has shape"):
        load(weights, settings)


def test_another_depth_than_the_settings_say_is_refused(weights, settings):
    layers = len({name.split(".")[3] for name in weights if name.startswith("predictor.transformer.layers.")})
    settings["predictor"] = {**settings["predictor"], "depth": layers + 1}
    with pytest.raises(ConfigurationError, match=f"predictor.depth = {layers + 1}, but the weights have {layers}"):
        load(weights, settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_target_": "os.system"}, "settings of 'os.system'"),
        ({"predictor": {"heads": 10**6}}, "predictor.heads gives 1000000 heads"),
        ({"predictor": {"emb_dropout": 0.5}}, "emb_dropout = 0.5 is not supported"),
        ({"predictor": {"depths": 2}}, "unknown official setting predictor.depths.* Did you mean 'depth'"),
        ({"projector": {"norm_fn": {"_target_": "torch.nn.LayerNorm"}}}, "only BatchNorm1d"),
        ({"encoder": [3]}, "encoder is a list"),
        ({"latent_dim": 5}, "the weights tell latent_dim"),
        ({"sigreg_wait": 5}, "sigreg_wait"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(weights, settings, change, message):
    with pytest.raises(ConfigurationError, match=message):
        load(weights, {**settings, **change})


def test_a_damaged_file_is_refused(folder):
    file = folder / "weights.pt"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"weights.pt cannot be read"):
        load(folder)


def test_what_is_no_checkpoint_is_refused(tmp_path, folder):
    with pytest.raises(CheckpointError, match="is no file"):
        load(tmp_path / "nowhere")
    (folder / "config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="holds a list"):
        load(folder)
    torch.save({"numbers": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(ConfigurationError, match="this is no LeWM"):
        load(tmp_path / "other.pt")


def test_a_file_that_runs_code_is_refused(folder, tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "ran").touch, ())

    torch.save({"predictor.pos_embedding": Evil()}, folder / "weights.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(folder)
    assert not (tmp_path / "ran").exists()


def test_an_imported_model_is_saved_and_read_back(weights, settings, tmp_path):
    model = load(weights, settings)
    model.save_pretrained(tmp_path)
    assert not worldflux.blocks.compare_states(model, worldflux.WorldModel.from_pretrained(tmp_path))


def test_a_predictor_of_other_widths_than_the_latent():
    small = JEPAConfig(
        obs_shape=(3, 16, 16), patch_size=4, encoder_units=12, encoder_depth=1, encoder_heads=2, encoder_mlp=20,
        latent_dim=10, projector_units=14, history=2, units=18, depth=1, heads=2, head_dim=4, mlp_units=22,
        head_units=16, head_inputs=6, action_units=5, action_dim=4,
    )  # fmt: skip
    model = JEPA(small).eval()
    state = model.state_dict()
    written = {official: state[own].clone() for official, own in official_names(model).items()}
    written["action_encoder.patch_embed.weight"] = written["action_encoder.patch_embed.weight"].unsqueeze(-1)
    written["predictor.pos_embedding"] = written["predictor.pos_embedding"].unsqueeze(0)
    told = {"encoder": {"num_attention_heads": 2}, "predictor": {"heads": 2, "input_dim": 10}}
    loaded = load(written, told)
    assert not worldflux.blocks.compare_states(model, loaded)
    assert (loaded.config.head_dim, loaded.config.units, loaded.config.head_inputs) == (4, 18, 6)
