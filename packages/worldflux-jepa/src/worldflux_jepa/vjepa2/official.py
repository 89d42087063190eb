"""Weights and settings of the official V-JEPA 2 as our model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldflux import ConfigurationError, did_you_mean
from worldflux.blocks import load_official, read_torch

from ..layers.official import HEADS, blocks_in, official_parts, ratio_of
from .config import VJEPA2Config
from .model import VJEPA2

PREDICTOR_HEADS = {384: 12}
# Settings that repeat what shapes say: they must agree.
SHAPES = (
    "embed_dim", "depth", "mlp_ratio", "patch_size", "tubelet_size", "qkv_bias", "in_chans", "pred_embed_dim",
    "pred_depth", "pred_mlp_ratio", "num_mask_tokens",
)  # fmt: skip
# Other settings -> our field.
SETTINGS = {
    "num_heads": "num_heads", "pred_num_heads": "pred_num_heads", "rope_layout": "rope_layout",
    "mask_mode": "mask_mode", "mask_index": "mask_index", "loss_exp": "loss_exponent",
    "encoder_eps": "encoder_eps", "predictor_eps": "predictor_eps", "target_eps": "target_eps",
}  # fmt: skip
FIXED = {"use_rope": True, "drop": 0.0, "use_silu": False}
OTHERS = (
    "which", "img_size", "crop_size", "num_frames", "clip_groups", "clip_frames", "layer_norm_eps", "activation",
    "head_dim", "mlp_hidden", "predictor",
)  # fmt: skip


def load(source: Mapping[str, Any] | str | Path, config: Mapping[str, Any] | None = None) -> VJEPA2:
    """Build our model from official V-JEPA 2 weights.

    Args:
        source: a ``.pt`` file of the official program, or a mapping of its parts (``encoder``, ``predictor``,
            ``target_encoder``) to parameter names and arrays. Prefixes of wrappers are taken off. Files are read with
            ``weights_only=True``.
        config: official settings where they are not the defaults. Sizes are taken from the weights. ``which`` chooses
            the weights of our encoder: "target_encoder" (the moving average, which is what is evaluated; the default
            where the file has it) or "encoder" (with the average beside it, to train on). ``num_heads`` and
            ``pred_num_heads`` are needed for widths that no released model has, ``img_size`` for other than 256 pixels,
            ``mask_index`` for another mask token than the second, which the official hub reads.

    Returns:
        The model in evaluation mode.

    Raises:
        ConfigurationError: settings are missing, unknown or not supported here, or contradict the weights; names or
            shapes of weights differ from what they should be; the weights are V-JEPA 2.1's, V-JEPA 2-AC's or a probe's.
        CheckpointError: the file is missing, or no checkpoint.
    """
    parts = official_parts(source if isinstance(source, Mapping) else read_torch(Path(source), example="vitl.pt"))
    if "action_encoder.weight" in parts.get("predictor", {}):
        raise ConfigurationError(
            "these are weights of V-JEPA 2-AC, whose predictor takes actions: import them as 'vjepa2-ac' "
            "(importer 'official-vjepa2-ac')"
        )
    settings = _flat(config or {})
    which = settings.get("which", "target_encoder" if "target_encoder" in parts else "encoder")
    if which not in ("target_encoder", "encoder"):
        raise ConfigurationError(f"which is {which!r}, expected 'target_encoder' or 'encoder'")
    for name in (which, "predictor"):
        if name not in parts:
            raise ConfigurationError(f"the official weights have no {name!r}, only {sorted(parts)}")
    model = VJEPA2(official_config(parts[which], parts["predictor"], settings))
    average = parts.get("target_encoder", {}) if which == "encoder" else {}
    chosen = {"encoder": parts[which], "predictor": parts["predictor"], "target_encoder": average or parts[which]}
    weights = {f"{part}.{name}": value for part, held in chosen.items() for name, value in held.items()}
    load_official(model, weights, official_names(model))
    return model.eval()


def official_names(model: VJEPA2) -> dict[str, str]:
    """Official name, behind its part's -> our name, for everything in a model's state that official weights hold."""
    ours = {"observation_encoder": "encoder", "predictor": "predictor", "target_encoder": "target_encoder"}
    names = (own.partition(".") for own in model.state_dict())
    return {f"{ours[part]}.{rest}": f"{part}.{rest}" for part, _, rest in names if part in ours}


# --- settings ---------------------------------------------------------------------------------------------------------


def official_config(
    encoder: Mapping[str, Tensor], predictor: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> VJEPA2Config:
    """Sizes from weights, the rest from flat official settings.

    Raises ConfigurationError for settings that are missing, unknown, not supported, or contradict the weights.
    """
    known = (*SHAPES, *SETTINGS, *FIXED, *OTHERS)
    sizes = _sizes(encoder, predictor)
    for name, value in settings.items():
        if name not in known:
            raise ConfigurationError(f"unknown official setting {name!r}.{did_you_mean(name, known)}")
        if name in FIXED and value != FIXED[name]:
            raise ConfigurationError(f"official setting {name} = {value!r} is not supported, only {FIXED[name]!r}")
        if name in SHAPES and not _same(name, value, sizes):
            raise ConfigurationError(
                f"official setting {name} = {value!r}, but the weights have {sizes[name]!r}: this is a checkpoint of "
                "another size"
            )
    if not str(settings.get("activation", "gelu")).lower().startswith("gelu"):
        raise ConfigurationError(
            f"official setting activation = {settings['activation']!r} is not supported, only GELU"
        )
    values = {name: sizes[name] for name in SHAPES if name != "in_chans"}
    values |= {own: settings[name] for name, own in SETTINGS.items() if settings.get(name) is not None}
    if (eps := settings.get("layer_norm_eps")) is not None:
        values = {"encoder_eps": eps, "predictor_eps": eps} | values
    for heads, width, table in (
        ("num_heads", "embed_dim", HEADS),
        ("pred_num_heads", "pred_embed_dim", PREDICTOR_HEADS),
    ):
        if heads not in values and sizes[width] not in table:
            raise ConfigurationError(
                f"the weights do not tell how many heads a width of {sizes[width]} is split into: give "
                f"config={{{heads!r}: ...}}"
            )
        values.setdefault(heads, table.get(sizes[width]))
    if (head := settings.get("head_dim")) is not None and head * values["num_heads"] != sizes["embed_dim"]:
        raise ConfigurationError(
            f"official settings head_dim = {head!r} and num_heads = {values['num_heads']!r} do not make the weights' "
            f"width of {sizes['embed_dim']}"
        )
    values["clip_frames"] = _clips(settings, sizes["tubelet_size"])
    spare = sizes["num_mask_tokens"] - len(values["clip_frames"])
    # training gives each length of clips the token of its number; the official hub and transformers read the second
    values.setdefault("mask_index", 0 if settings.get("clip_groups") else max(0, min(1, spare)))
    return VJEPA2Config.from_dict(
        {"model_name": "official", "obs_shape": (sizes["in_chans"], *_pixels(settings)), **values}
    )


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by one name each: those of the predictor stand beside the others, as ``pred_...``."""
    inner = config.get("predictor") or {}
    if not isinstance(inner, Mapping):
        raise ConfigurationError(f"official setting predictor = {inner!r}, expected its settings by name")
    flat = {name: value for name, value in config.items() if name != "predictor"}
    if "pred_num_mask_tokens" in flat:
        flat["num_mask_tokens"] = flat.pop("pred_num_mask_tokens")
    for name, value in inner.items():
        if name != "head_dim":
            flat["num_mask_tokens" if name == "num_mask_tokens" else f"pred_{name}"] = value
    return flat


def _sizes(encoder: Mapping[str, Tensor], predictor: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the shapes of weights tell, by the names of settings."""

    def shape(held: Mapping[str, Tensor], part: str, name: str) -> torch.Size:
        if name not in held:
            raise ConfigurationError(
                f"the official {part} lacks {name!r}, it holds {sorted(held)[:3]} ({len(held)} names in all)"
            )
        return held[name].shape

    width, channels, tubelet, *patch = _five(shape(encoder, "encoder", "patch_embed.proj.weight"))
    narrow = shape(predictor, "predictor", "predictor_embed.weight")[0]
    hidden = shape(encoder, "encoder", "blocks.0.mlp.fc1.weight")[0]
    pred_hidden = shape(predictor, "predictor", "predictor_blocks.0.mlp.fc1.weight")[0]
    if patch[0] != patch[1]:
        raise ConfigurationError(
            f"the official encoder has patches of {patch[0]} x {patch[1]} pixels, expected squares"
        )
    return {
        "embed_dim": width, "in_chans": channels, "tubelet_size": tubelet, "patch_size": patch[0],
        "depth": blocks_in(encoder, "blocks"), "mlp_ratio": ratio_of(hidden, width),
        "qkv_bias": "blocks.0.attn.qkv.bias" in encoder, "pred_embed_dim": narrow,
        "pred_depth": blocks_in(predictor, "predictor_blocks"), "pred_mlp_ratio": ratio_of(pred_hidden, narrow),
        "num_mask_tokens": max(1, sum(name.startswith("mask_tokens.") for name in predictor)),
    }  # fmt: skip


def _five(shape: torch.Size) -> torch.Size:
    if len(shape) != 5:
        raise ConfigurationError(
            f"'patch_embed.proj.weight' has shape {tuple(shape)}, expected (width, channels, tubelet, patch, patch): "
            "is this an encoder of images?"
        )
    return shape


def _same(name: str, value: Any, sizes: Mapping[str, Any]) -> bool:
    if name.endswith("mlp_ratio"):  # truncated, where it makes no whole number
        width = sizes["embed_dim" if name == "mlp_ratio" else "pred_embed_dim"]
        return isinstance(value, (int, float)) and int(width * value) == round(width * sizes[name])
    return bool(value == sizes[name])


def _clips(settings: Mapping[str, Any], tubelet: int) -> tuple[int, ...]:
    """The lengths of clips: of the groups that it was trained on, or of its one."""
    groups = settings.get("clip_groups")
    if groups is not None:
        try:
            return tuple(int(group["frames"]) for group in groups)
        except (TypeError, KeyError, ValueError) as error:
            raise ConfigurationError(
                f"official setting clip_groups = {groups!r}, expected such as [{{'frames': 16}}]"
            ) from error
    frames = settings.get("clip_frames", settings.get("num_frames"))
    if frames is None:
        return (max(16, tubelet),)
    return tuple(frames) if isinstance(frames, (list, tuple)) else (frames,)


def _pixels(settings: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of the pictures."""
    given = settings.get("img_size", settings.get("crop_size", 256))
    sides = tuple(given) if isinstance(given, (list, tuple)) else (given, given)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ConfigurationError(f"official setting img_size = {given!r}, expected one side or two, in pixels")
    return sides[0], sides[1]
