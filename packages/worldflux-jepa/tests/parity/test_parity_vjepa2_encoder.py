"""The encoder and the predictor of V-JEPA 2 give the numbers of the official program, and of transformers."""

from __future__ import annotations

import pytest
import torch

from worldflux import import_weights
from worldflux_jepa.layers.rope import axis_rotation, positions_of, rotate, rotation_of
from worldflux_jepa.vjepa2 import VJEPA2, hf
from worldflux_jepa.vjepa2.masks import Masks

RECORDED = "vjepa2_encoder"
EPS, GRADIENT = 1e-4, 1e-4


@pytest.fixture
def official(recording):
    """Builds our model with the recorded weights."""

    def build(**settings) -> VJEPA2:
        weights = {part: recording.below(f"weights/{part}/") for part in ("encoder", "predictor")}
        return import_weights(weights, importer="official-vjepa2", config={**recording.meta["config"], **settings})

    return build


def clip(recording, name):
    """A recorded clip ``(B, C, T, H, W)`` as ours ``[B, T, C, H, W]``."""
    return recording[name].transpose(1, 2)


def test_sizes_are_those_of_the_config(recording, official):
    config, told = official().config, recording.meta["config"]
    for name in ("embed_dim", "depth", "num_heads", "patch_size", "tubelet_size"):
        assert getattr(config, name) == told[name]
    assert config.obs_shape == (told["in_chans"], *told["img_size"])
    assert int(config.embed_dim * config.mlp_ratio) == told["mlp_hidden"]


def test_rotations_of_one_axis_in_both_layouts(recording, agrees):
    sizes = {name.split("/")[0] for name in recording.below("io/rope/")}
    assert sizes
    for size in sizes:
        x, position = recording[f"rope/{size}/x"], recording[f"rope/{size}/pos"]
        for layout, name in (("vjepa2", "y"), ("standard", "y_standard")):
            agrees(rotate(x, axis_rotation(position, x.shape[-1], layout)), recording[f"rope/{size}/{name}"])


def test_every_step_of_the_first_block(recording, official, agrees):
    encoder, video = official().observation_encoder, clip(recording, "video")
    tokens = encoder.patch_embed(video)
    agrees(tokens, recording["patch_embed"])
    _, rows, columns = encoder.patch_embed.grid(video)
    positions = positions_of(torch.arange(tokens.shape[1]), rows=rows, columns=columns)
    for position, name in zip(positions, ("pos_t", "pos_h", "pos_w"), strict=True):
        assert torch.equal(position, recording[name].long())
    block, rotation = encoder.blocks[0], rotation_of(positions, encoder.head_dim, "vjepa2")
    normed = block.norm1(tokens)
    agrees(normed, recording["block0/norm1"])
    for part, name in zip(block.attn.project(normed), "qkv", strict=True):
        agrees(part, recording[f"block0/{name}"])
    query, key, value = block.attn.project(normed, rotation)
    agrees(query, recording["block0/q_rot"])
    agrees(key, recording["block0/k_rot"])
    read = block.attn.attend(query, key, value)
    agrees(read, recording["block0/attn"])
    agrees(block.norm2(tokens + read), recording["block0/norm2"])
    agrees(block.mlp(block.norm2(tokens + read)), recording["block0/mlp"])


def test_every_block_and_the_output(recording, official, agrees):
    encoder, outputs = official().observation_encoder, []
    for block in encoder.blocks:
        block.register_forward_hook(lambda module, given, output: outputs.append(output))
    agrees(encoder.tokens(clip(recording, "video")), recording["out"])
    for number, output in enumerate(outputs):
        agrees(output, recording[f"block{number}/out"])


def test_the_eps_of_norms(recording, official, agrees):
    model = official()
    encoder, video = model.observation_encoder, clip(recording, "video")
    time, rows, columns = encoder.patch_embed.grid(video)
    positions = positions_of(torch.arange(time * rows * columns), rows=rows, columns=columns)
    rotation = rotation_of(positions, encoder.head_dim, "vjepa2")
    agrees(encoder.blocks[0](recording["eps_probe_in"], rotation), recording["eps_probe_out"], tolerance=EPS)


def test_a_single_frame_is_repeated_to_a_tubelet(recording, official, agrees):
    model = official()
    frame = clip(recording, "image").expand(-1, model.config.tubelet_size, -1, -1, -1)
    agrees(model.observation_encoder.tokens(frame), recording["image_out"])


def test_longer_clips_and_pictures_of_another_shape(recording, official, agrees):
    encoder = official().observation_encoder
    if recording.has("long"):
        agrees(encoder.tokens(clip(recording, "long")), recording["long_out"])
    agrees(encoder.tokens(clip(recording, "rect")), recording["rect_out"])


def test_masks_before_the_blocks(recording, official, agrees):
    encoder, video = official().observation_encoder, clip(recording, "video")
    for name in ("a", "b"):
        agrees(encoder.tokens(video, recording[f"mask_{name}"]), recording[f"mask_{name}_before_out"])
    agrees(encoder.tokens(video, recording["mask_unsorted"]), recording["mask_unsorted_out"])
    agrees(encoder.tokens(clip(recording, "rect"), recording["rect_mask"]), recording["rect_mask_out"])


def test_the_first_block_of_a_masked_clip(recording, official, agrees):
    encoder, outputs = official().observation_encoder, []
    encoder.blocks[0].register_forward_hook(lambda module, given, output: outputs.append(output))
    for name in ("a", "b"):
        encoder.tokens(clip(recording, "video"), recording[f"mask_{name}"])
        agrees(outputs[-1], recording[f"mask_{name}_block0_out"])


def test_masks_after_the_blocks(recording, official, agrees):
    model, video = official(mask_mode="after"), clip(recording, "video")
    for name in ("a", "b"):
        ids = recording[f"mask_{name}"].long()
        ((context, _),) = model.predicted(video, [Masks(ids, ids)])
        agrees(context, recording[f"mask_{name}_after_out"])


def test_the_predictor_with_every_mask_token(recording, official, agrees):
    video = clip(recording, "video")
    masks = Masks(recording["hf/context_mask"].long(), recording["hf/target_mask"].long())
    found = recording.below("io/official_predictor_before/mask_index")
    assert found
    for index, wanted in found.items():
        ((_, predicted),) = official(mask_index=int(index)).predicted(video, [masks])
        agrees(predicted, wanted)
    ((_, predicted),) = official(mask_mode="after", mask_index=1 % len(found)).predicted(video, [masks])
    agrees(predicted, recording["official_predictor_after"])


def test_gradients_of_a_masked_clip(recording, official, agrees):
    encoder, video = official().observation_encoder, clip(recording, "video").requires_grad_()
    (encoder.tokens(video, recording["mask_a"]) * recording["grad_cotangent"]).sum().backward()
    agrees(video.grad.transpose(1, 2), recording["grad_video"], tolerance=GRADIENT)
    weights, wanted = dict(encoder.named_parameters()), recording.below("grads/encoder/")
    assert wanted
    assert all(value.grad is not None for value in weights.values())
    for name, value in wanted.items():
        agrees(weights[name].grad, value, tolerance=GRADIENT)


# --- transformers -----------------------------------------------------------------------------------------------------


def in_their_layout(recording) -> dict[str, torch.Tensor]:
    """The recorded weights by the recorded map of names."""
    held = {part: recording.below(f"weights/{part}/") for part in ("encoder", "predictor")}
    found = {}
    for name, place in recording.meta["official_to_hf"].items():
        weights = held[place["module"]]
        if "stack" in place:
            found[name] = torch.stack([weights[key] for key in place["stack"]])
        else:
            found[name] = weights[place["key"]][slice(*place.get("rows", (None,)))]
    return found


def as_transformers_5_names_them(weights):
    """The names of a model in memory."""
    renamed = {}
    for name, value in weights.items():
        name = name.replace(".layer.", ".layers.").replace(".attention.proj.", ".attention.o_proj.")
        for part in ("query", "key", "value"):
            name = name.replace(f".attention.{part}.", f".attention.{part[0]}_proj.")
        renamed[name] = value
    return renamed


@pytest.mark.parametrize("layout", [dict, as_transformers_5_names_them], ids=["files", "memory"])
def test_weights_of_transformers_give_its_numbers(recording, agrees, layout):
    weights = layout(in_their_layout(recording))
    model = import_weights(weights, importer="hf-vjepa2", config=recording.meta["hf_config"])
    encoder, video = model.observation_encoder, clip(recording, "video")
    tokens = encoder.tokens(video)
    agrees(tokens, recording["hf/last_hidden_state"])
    masks = Masks(recording["hf/context_mask"].long(), recording["hf/target_mask"].long())
    ((context, predicted),) = model.predicted(video, [masks])
    agrees(context, recording["hf/masked_hidden_state"])
    agrees(predicted, recording["hf/predictor_last_hidden_state"])
    hidden = tokens.gather(1, masks.target.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
    agrees(hidden, recording["hf/target_hidden_state"])
    frame = clip(recording, "image").expand(-1, model.config.tubelet_size, -1, -1, -1)
    agrees(encoder.tokens(frame), recording["hf/image_last_hidden_state"])


def test_both_layouts_give_one_model(recording, official):
    theirs = import_weights(in_their_layout(recording), importer="hf-vjepa2", config=recording.meta["hf_config"])
    ours = official().state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in theirs.state_dict().items())


def test_a_folder_is_read_and_written_without_a_difference(recording, official, tmp_path):
    own = official()
    back = import_weights(hf.export(own, tmp_path / "hf"), importer="hf-vjepa2")
    ours = own.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in back.state_dict().items())
    assert set(in_their_layout(recording)) == set(hf.read_folder(tmp_path / "hf")[1])


def test_the_recorded_folder_is_the_recorded_weights(recording, official):
    folder = recording.folder / recording.name.replace("vjepa2_encoder", "vjepa2_hf")
    if not folder.is_dir():
        pytest.skip(f"there is no {folder.name} beside the recording")
    ours = official().state_dict()
    model = import_weights(folder, importer="hf-vjepa2")
    assert all(torch.equal(value, ours[name]) for name, value in model.state_dict().items())


def test_transformers_itself_gives_our_numbers(recording, official, tmp_path):
    transformers = pytest.importorskip("transformers")
    own = official(mask_mode="after", mask_index=1 % recording.meta["config"]["predictor"]["num_mask_tokens"])
    theirs = transformers.VJEPA2Model.from_pretrained(hf.export(own, tmp_path / "hf"), local_files_only=True).eval()
    video = clip(recording, "video")
    masks = Masks(recording["hf/context_mask"].long(), recording["hf/target_mask"].long())
    with torch.no_grad():
        out = theirs(video, context_mask=[masks.context], target_mask=[masks.target])
        ((context, predicted),) = own.predicted(video, [masks])
        tokens = own.observation_encoder.tokens(video)
    for got, wanted in (
        (tokens, out.last_hidden_state),
        (context, out.masked_hidden_state),
        (predicted, out.predictor_output.last_hidden_state),
    ):
        assert (got - wanted).abs().max() <= 1e-5
