"""LeWM, block by block: the vision transformer, the projector, the predictor, in training and in evaluation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from worldflux_jepa.jepa import JEPA
from worldflux_jepa.jepa.official import load
from worldflux_jepa.jepa.transformers import ModulatedBlocks
from worldflux_jepa.jepa.window import Window, spread

RECORDED = "jepa_lewm"
NEAR, PROBE = 5e-5, 1e-4


def settings_of(recording) -> dict:
    """The recorded config in the words of ``config.json``, and ours for what the recording was made with."""
    config = recording.meta["config"]
    predictor = {k: v for k, v in config["predictor"].items() if k in ("heads", "dim_head", "dropout", "depth")}
    return {
        "encoder": {"num_attention_heads": config["encoder"]["num_attention_heads"]},
        "predictor": predictor,
        "sigreg_weight": config["sigreg"]["weight"],
        "directions": config["sigreg"]["num_proj"],
        "knots": config["sigreg"]["knots"],
        "image_mean": [0.0],
        "image_std": [1 / 255],  # what was recorded is normalised already
    }


@pytest.fixture
def model(recording) -> JEPA:
    return load(recording.below("weights/"), settings_of(recording))


def rows(x: Tensor) -> Tensor:
    """Clips ``[B, T, ...]`` as rows."""
    return x.flatten(0, 1)


def window(recording, latents: Tensor) -> Window:
    """The rows that predictions start from, as one window."""
    count = recording["pred"].shape[1]
    begun = torch.zeros(latents.shape[0], count, dtype=torch.int64)
    return Window(spread(latents[:, :count], 1), recording["action"][:, :count].nan_to_num(0.0), begun)


def test_the_vision_transformer(recording, model, agrees):
    vit, pixels = model.observation_encoder.image, rows(recording["pixels"])
    tokens = vit.embed(pixels)
    agrees(tokens, recording["vit_embed"], tolerance=NEAR)
    agrees(vit.layers[0](tokens), recording["vit_layer0"], tolerance=NEAR)
    agrees(vit.tokens(pixels), recording["vit_out"], tolerance=NEAR)


def test_the_projector_in_training(recording, model, agrees):
    projector = model.observation_encoder.projector.train()
    first = projector[0](recording["vit_out"][:, 0])
    agrees(first, recording["proj_fc1"], tolerance=NEAR)
    agrees(projector[1](first), recording["proj_bn"], tolerance=NEAR)


def test_the_embedding_of_actions(recording, model, agrees):
    actions, embedding = recording["action"].nan_to_num(0.0), model.dynamics_model.actions
    agrees(embedding.smooth(actions).transpose(1, 2), recording["act_patch"], tolerance=NEAR)
    agrees(embedding(actions), recording["act_emb"], tolerance=NEAR)


def led(recording, predictor) -> tuple[Tensor, Tensor, Window]:
    """What comes into the first block, the condition beside it, and the window."""
    given = window(recording, recording["emb"])
    x = predictor.joined(given).squeeze(-2) + predictor.positions[: given.begun.shape[1]]
    condition, blocks = predictor.actions(given.actions), predictor.blocks
    if blocks.lead is not None:
        x, condition = blocks.lead(x), blocks.lead_condition(condition)
    return x, condition, given


def test_the_first_block_step_by_step(recording, model, agrees):
    predictor = model.dynamics_model.train()
    x, condition, given = led(recording, predictor)
    block = predictor.blocks.layers[0]
    modulation = block.modulation(torch.nn.functional.silu(condition))
    agrees(modulation, recording["pred_mod"], tolerance=NEAR)
    shift, scale, gate, shift_mlp, scale_mlp, _ = modulation.chunk(6, -1)
    attention = block.attention(block.norm(x) * (1 + scale) + shift, given.seen)
    agrees(attention, recording["pred_block0_attn"], tolerance=NEAR)
    between = x + gate * attention
    agrees(block.mlp(block.norm(between) * (1 + scale_mlp) + shift_mlp), recording["pred_block0_mlp"], tolerance=NEAR)
    agrees(block(x, condition, given.seen), recording["pred_block0"], tolerance=NEAR)


def test_the_predictor_in_training(recording, model, agrees):
    predictor = model.dynamics_model.train()
    raw = predictor.rows(window(recording, recording["emb"]), None)
    agrees(raw.squeeze(-2), recording["pred_raw"], tolerance=NEAR)
    agrees(predictor.headed(raw).squeeze(-2), recording["pred"], tolerance=NEAR)


def test_every_norm_has_the_official_epsilon(recording, model, agrees):
    vit, predictor = model.observation_encoder.image, model.dynamics_model
    block, look = predictor.blocks.layers[0], lambda x: torch.ones(1, x.shape[1], x.shape[1], dtype=torch.bool).tril()
    for name, part in {
        "eps_vit_layer": vit.layers[0],
        "eps_attn": lambda x: block.attention(x, look(x)),
        "eps_ff": block.mlp,
        "eps_final": predictor.blocks.norm,
        "eps_bn": model.observation_encoder.projector[1].train(),
    }.items():
        agrees(part(recording[f"eval/{name}_in"]), recording[f"eval/{name}_out"], tolerance=PROBE)
    x = recording["eval/block_eps_in"]
    out = block(x, recording["eval/block_eps_cond"], look(x))
    agrees(out, recording["eval/block_eps_out"], tolerance=PROBE)


def test_evaluation_takes_the_running_statistics(recording, model, agrees):
    emb = rows(recording["eval/emb"])
    agrees(model.encode({"obs": rows(recording["pixels"])}, deterministic=True)["latent"], emb, tolerance=NEAR)
    predictor, given = model.dynamics_model, window(recording, recording["eval/emb"])
    agrees(predictor.headed(predictor.rows(given, None)).squeeze(-2), recording["eval/pred"], tolerance=NEAR)


def test_a_short_window_takes_the_first_positions(recording, model, agrees):
    state = model.encode({"obs": recording["pixels"][:, 0]})
    ahead = model.transition(state, recording["action"][:, 0].nan_to_num(0.0))
    agrees(ahead["latent"], recording["eval/pred_short"][:, 0], tolerance=NEAR)


def test_positions_of_larger_images_are_interpolated(recording, model, agrees):
    pixels = rows(recording["eval/big_pixels"])
    settings = {**settings_of(recording), "obs_shape": list(pixels.shape[1:])}
    larger = load(recording.below("weights/"), settings)
    agrees(larger.encode({"obs": pixels})["latent"], rows(recording["eval/big_emb"]), tolerance=NEAR)


def test_weights_after_training_are_evaluated_alike(recording, agrees):
    trained = load(recording.below("weights_after2/"), settings_of(recording))
    latent = trained.encode({"obs": rows(recording["pixels"])})["latent"]
    agrees(latent, rows(recording["eval/emb_after2"]), tolerance=NEAR)


def test_a_predictor_of_unequal_widths(recording, model, agrees):
    sizes, weights = recording.meta["predictor_proj_config"], recording.below("weights_predictor_proj/")
    config = replace(
        model.config, depth=sizes["depth"], heads=sizes["heads"], head_dim=sizes["dim_head"], mlp_units=sizes["mlp_dim"]
    )
    blocks = ModulatedBlocks(config, inputs=sizes["inp"], width=sizes["hid"], outputs=sizes["out"])
    names = {
        "input_proj": "lead", "cond_proj": "lead_condition", "output_proj": "out", ".attn.": ".attention.",
        "to_qkv": "qkv", "to_out.0": "out", "mlp.net.0": "mlp.norm", "mlp.net.1": "mlp.first",
        "mlp.net.4": "mlp.second", "adaLN_modulation.1": "modulation", "transformer.": "",
    }  # fmt: skip
    positions, renamed = weights.pop("pos_embedding"), {}
    for name, value in weights.items():
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        renamed[name] = value
    blocks.load_state_dict(renamed)
    x = recording["predictor_proj/x"]
    mask = torch.ones(1, x.shape[1], x.shape[1], dtype=torch.bool).tril()
    out = blocks(x + positions[:, : x.shape[1]], recording["predictor_proj/c"], mask)
    agrees(out, recording["predictor_proj/out"], tolerance=NEAR)
