"""Official weights load in every layout, or say why not."""

from __future__ import annotations

import re

import pytest
import torch

from worldflux import CheckpointError, ConfigurationError, import_weights
from worldflux_jepa.vjepa2 import AttentiveProbe, load, load_probe
from worldflux_jepa.vjepa2.official import official_names

SETTINGS = {"img_size": 16, "num_heads": 2, "pred_num_heads": 2, "num_frames": 4}
PREFIXES = ["module.backbone.", "module.", "backbone.", ""]


@pytest.fixture
def parts(build):
    """The parts of an official checkpoint, without prefixes; the average is another than the encoder."""
    model = build()
    with torch.no_grad():
        for value in model.target_encoder.buffers():
            value += 0.5
    held, found = model.state_dict(), {}
    for official, own in official_names(model).items():
        part, _, name = official.partition(".")
        found.setdefault(part, {})[name] = held[own].clone()
    return found


def written(parts, path, prefix):
    """A file as the official program writes it."""
    others = {
        "opt": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3}]}, "scaler": None, "epoch": 2,
        "loss": 0.5, "batch_size": 3, "world_size": 1, "lr": 1e-3,
    }  # fmt: skip
    torch.save({**{part: {prefix + n: v for n, v in held.items()} for part, held in parts.items()}, **others}, path)
    return path


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_prefix_gives_the_same_model(parts, tmp_path, prefix):
    file = written(parts, tmp_path / "vitx.pt", prefix)
    model = import_weights(file, importer="official-vjepa2", config=SETTINGS)
    held = model.state_dict()
    assert all(torch.equal(held[f"observation_encoder.{n}"], v) for n, v in parts["target_encoder"].items())
    assert all(torch.equal(held[f"predictor.{n}"], v) for n, v in parts["predictor"].items())
    assert not model.training
    assert model.config.mask_index == 1  # which the official hub reads


def test_which_chooses_the_encoder_and_keeps_the_average_beside_it(parts):
    for which in ("encoder", "target_encoder"):
        held = load(parts, {**SETTINGS, "which": which}).state_dict()
        assert all(torch.equal(held[f"observation_encoder.{n}"], v) for n, v in parts[which].items())
        assert all(torch.equal(held[f"target_encoder.{n}"], v) for n, v in parts["target_encoder"].items())


def test_without_an_average_the_encoder_takes_its_place(parts):
    del parts["target_encoder"]
    held = load(parts, SETTINGS).state_dict()
    for part in ("observation_encoder", "target_encoder"):
        assert all(torch.equal(held[f"{part}.{n}"], v) for n, v in parts["encoder"].items())
    with pytest.raises(ConfigurationError, match=r"no 'target_encoder', only \['encoder', 'predictor'\]"):
        load(parts, {**SETTINGS, "which": "target_encoder"})


def test_which_is_one_of_two(parts):
    with pytest.raises(ConfigurationError, match="which is 'teacher', expected 'target_encoder' or 'encoder'"):
        load(parts, {**SETTINGS, "which": "teacher"})


def test_sizes_are_told_by_the_weights_and_positions_of_old_files_are_left_out(parts):
    parts["encoder"]["pos_embed"] = torch.zeros(1, 32, 24)
    config = load(parts, {**SETTINGS, "which": "encoder"}).config
    assert (config.embed_dim, config.depth, config.patch_size, config.tubelet_size) == (24, 2, 4, 2)
    assert (config.pred_embed_dim, config.pred_depth, config.num_mask_tokens) == (24, 1, 3)
    assert (config.obs_shape, config.clip_frames) == ((3, 16, 16), (4,))


def test_eps_is_carried_for_each_module(parts):
    config = load(parts, {**SETTINGS, "layer_norm_eps": 1e-4, "predictor_eps": 1e-3}).config
    assert (config.encoder_eps, config.predictor_eps, config.target_eps) == (1e-4, 1e-3, 1e-5)


def test_heads_are_asked_for_where_no_released_model_tells_them(parts):
    for name in ("num_heads", "pred_num_heads"):
        rest = {key: value for key, value in SETTINGS.items() if key != name}
        with pytest.raises(ConfigurationError, match=rf"a width of 24 is split into: give config={{'{name}'"):
            load(parts, rest)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"depth": 3}, "depth = 3, but the weights have 2"),
        ({"pred_depth": 12}, "pred_depth = 12, but the weights have 1"),
        ({"predictor": {"depth": 12}}, "pred_depth = 12, but the weights have 1"),
        ({"embed_dim": 48}, "embed_dim = 48, but the weights have 24"),
        ({"mlp_ratio": 3.0}, "mlp_ratio = 3.0, but the weights have 4.0"),
        ({"num_mask_tokens": 2}, "num_mask_tokens = 2, but the weights have 3"),
        ({"head_dim": 16}, "head_dim = 16 and num_heads = 2"),
        ({"use_rope": False}, "use_rope = False is not supported"),
        ({"activation": "silu"}, "activation = 'silu' is not supported"),
        ({"num_head": 2}, "unknown official setting 'num_head'.*num_heads"),
        ({"img_size": "big"}, "img_size = 'big'"),
        ({"clip_groups": 4}, "clip_groups = 4"),
        ({"img_size": 18}, "18 x 18 pixels hold no whole number of patches"),
        ({"num_heads": 4}, "heads of 6 channels are too narrow"),
    ],
)
def test_settings_that_contradict_the_weights_are_named(parts, settings, word):
    with pytest.raises(ConfigurationError, match=word):
        load(parts, {**SETTINGS, **settings})


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("target_encoder", "blocks.1.norm2.bias"), ("target_encoder", "norm.weight"),
        ("target_encoder", "patch_embed.proj.weight"), ("predictor", "mask_tokens.1"),
        ("predictor", "predictor_proj.weight"), ("predictor", "predictor_blocks.0.mlp.fc1.weight"),
    ],
)  # fmt: skip
def test_a_missing_weight_is_named(parts, part, name):
    del parts[part][name]
    with pytest.raises(ConfigurationError, match=rf"lack.*{re.escape(name)}"):
        load(parts, SETTINGS)


def test_an_unknown_weight_is_named(parts):
    parts["predictor"]["predictor_blocks.0.ls1.gamma"] = torch.ones(24)
    with pytest.raises(ConfigurationError, match=r"ls1\.gamma.*belong to no part"):
        load(parts, SETTINGS)


def test_a_weight_of_another_shape_is_named(parts):
    parts["target_encoder"]["blocks.0.attn.qkv.weight"] = torch.zeros(70, 24)
    with pytest.raises(ConfigurationError, match=r"blocks\.0\.attn\.qkv\.weight' has shape \(70, 24\)"):
        load(parts, SETTINGS)


def test_an_encoder_of_images_is_no_encoder_of_videos(parts):
    parts["target_encoder"]["patch_embed.proj.weight"] = torch.zeros(24, 3, 4, 4)
    with pytest.raises(ConfigurationError, match="is this an encoder of images"):
        load(parts, SETTINGS)


def test_one_weight_under_two_prefixes_is_refused(parts):
    parts["encoder"]["module.norm.bias"] = torch.zeros(24)
    with pytest.raises(ConfigurationError, match=r"'norm\.bias' twice"):
        load(parts, SETTINGS)


@pytest.mark.parametrize(
    "name", ["patch_embed_img.proj.weight", "img_mod_embed", "video_mod_embed", "norms_block.0.weight"]
)
def test_files_of_2_1_are_recognised_and_refused_by_name(parts, name):
    parts["target_encoder"][f"module.backbone.{name}"] = torch.zeros(24)
    for file in (parts, {"ema_encoder": parts["target_encoder"]}):
        with pytest.raises(ConfigurationError, match=rf"V-JEPA 2\.1 \(it has '{name}'\)"):
            load(file, SETTINGS)


def test_files_of_the_action_conditioned_model_are_refused_by_name(parts):
    parts["predictor"]["action_encoder.weight"] = torch.zeros(24, 7)
    with pytest.raises(ConfigurationError, match="V-JEPA 2-AC.*official-vjepa2-ac"):
        load(parts, SETTINGS)


def test_what_is_no_such_file_is_refused(tmp_path, parts):
    with pytest.raises(CheckpointError, match="is no file.*vitl.pt"):
        load(tmp_path / "absent.pt", SETTINGS)
    with pytest.raises(ConfigurationError, match="hold none of"):
        load({"model": parts["encoder"]}, SETTINGS)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ConfigurationError, match="got a list"):
        load(tmp_path / "list.pt", SETTINGS)
    file = written(parts, tmp_path / "cut.pt", "module.")
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match="cannot be read as an official checkpoint"):
        load(file, SETTINGS)


# --- probes -----------------------------------------------------------------------------------------------------------


def test_a_probe_is_read_from_its_file_by_number(tmp_path):
    probes = [AttentiveProbe(24, 5, heads=2, depth=2, seed=seed) for seed in range(2)]
    held = [{f"module.{name}": value for name, value in probe.state_dict().items()} for probe in probes]
    torch.save({"classifiers": held, "opt": [], "epoch": 1}, tmp_path / "probe.pt")
    for number, probe in enumerate(probes):
        read = load_probe(tmp_path / "probe.pt", heads=2, which=number).state_dict()
        assert all(torch.equal(read[name], value) for name, value in probe.state_dict().items())
    with pytest.raises(ConfigurationError, match="which is 2, the file holds probes 0 to 1"):
        load_probe(tmp_path / "probe.pt", heads=2, which=2)
    with pytest.raises(ConfigurationError, match="attentive probes, not an encoder"):
        load(tmp_path / "probe.pt", SETTINGS)


def test_a_probe_that_lacks_a_weight_or_has_another_too_many_is_named():
    weights = AttentiveProbe(24, 5, heads=2, depth=2).state_dict()
    with pytest.raises(ConfigurationError, match=r"pooler\.query_tokens"):
        load_probe({name: value for name, value in weights.items() if name != "pooler.query_tokens"}, heads=2)
    with pytest.raises(ConfigurationError, match=r"lacks 'linear\.weight'"):
        load_probe({name: value for name, value in weights.items() if name != "linear.weight"}, heads=2)
    with pytest.raises(ConfigurationError, match="pooler.more"):
        load_probe({**weights, "pooler.more": torch.zeros(1)}, heads=2)
    with pytest.raises(ConfigurationError, match="24 cannot be split into 5 heads"):
        load_probe(weights, heads=5)
    with pytest.raises(ConfigurationError, match="at least one of each"):
        AttentiveProbe(24, 0)
