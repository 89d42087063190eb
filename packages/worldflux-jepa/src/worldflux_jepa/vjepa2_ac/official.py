"""Weights and settings of the official V-JEPA 2-AC as our model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from worldflux import ConfigurationError, did_you_mean
from worldflux.blocks import load_official, read_torch

from ..layers.official import HEADS, blocks_in, official_parts, ratio_of
from .config import CAMERA, POSE, VECTORS, VJEPA2ACConfig
from .model import VJEPA2AC

PREDICTOR_HEADS = {1024: 16}
SETTINGS = (
    "which",
    "img_size",
    "num_heads",
    "predictor_heads",
    "window",
    "history",
    "use_extrinsics",
    "auto_steps",
    "loss_exp",
)


def load(source: Mapping[str, Any] | str | Path, config: Mapping[str, Any] | None = None) -> VJEPA2AC:
    """Build our model from official V-JEPA 2-AC weights.

    Args:
        source: a ``.pt`` file, or a mapping of its parts to parameter names and arrays, with or without the prefixes of
            wrappers.
        config: settings where they are not the defaults; sizes are taken from the weights. ``which`` is the part that
            encodes, "target_encoder" (where the file has it) or "encoder"; ``img_size`` is 256 unless it is given;
            ``num_heads`` and ``predictor_heads`` are needed for widths that no released model has; ``use_extrinsics``
            observes the camera; ``window``, ``history``, ``auto_steps`` and ``loss_exp`` are not in the weights.

    Raises:
        ConfigurationError: settings are unknown or missing, names or shapes are not what they should be, or the weights
            are another model's.
        CheckpointError: the file is missing, or no checkpoint.
    """
    parts = official_parts(source if isinstance(source, Mapping) else read_torch(Path(source), example="vjepa2-ac.pt"))
    settings = dict(config or {})
    if unknown := sorted(set(settings) - set(SETTINGS)):
        raise ConfigurationError(f"unknown setting {unknown[0]!r}.{did_you_mean(unknown[0], SETTINGS)}")
    which = settings.pop("which", "target_encoder" if "target_encoder" in parts else "encoder")
    if lacking := {which, "predictor"} - set(parts):
        raise ConfigurationError(f"the official weights have no {sorted(lacking)}, only {sorted(parts)}")
    encoder, predictor = parts[which], parts["predictor"]
    if "action_encoder.weight" not in predictor:
        raise ConfigurationError(
            "the predictor takes no actions (it has no 'action_encoder.weight'): these are weights of V-JEPA 2, import "
            "them with 'official-vjepa2'"
        )
    model = VJEPA2AC(VJEPA2ACConfig(**sizes_of(encoder, predictor), **_chosen(settings, encoder, predictor)))
    ours = {"observation_encoder": which, "dynamics_model": "predictor"}
    names = {}
    for own in model.state_dict():
        part, _, rest = own.partition(".")
        names[f"{ours[part]}.{rest}"] = own
    weights = {f"{part}.{name}": value for part in (which, "predictor") for name, value in parts[part].items()}
    load_official(model, weights, names)
    return model.eval()


def sizes_of(encoder: Mapping[str, Tensor], predictor: Mapping[str, Tensor]) -> dict[str, Any]:
    """What shapes tell. Raises ConfigurationError for a name that is missing."""

    def shape(held: Mapping[str, Tensor], name: str, axes: int) -> list[int]:
        if name not in held or held[name].ndim != axes:
            got = f"{tuple(held[name].shape)}" if name in held else f"missing among {sorted(held)[:3]}"
            raise ConfigurationError(f"official weight {name!r} is {got}, expected {axes} axes")
        return list(held[name].shape)

    width, _, tubelet, patch, _ = shape(encoder, "patch_embed.proj.weight", 5)
    narrow, action_dim = shape(predictor, "action_encoder.weight", 2)
    return {
        "embed_dim": width,
        "depth": blocks_in(encoder, "blocks"),
        "mlp_ratio": ratio_of(shape(encoder, "blocks.0.mlp.fc1.weight", 2)[0], width),
        "qkv_bias": "blocks.0.attn.qkv.bias" in encoder,
        "tubelet_size": tubelet,
        "patch_size": patch,
        "action_dim": action_dim,
        "predictor_dim": narrow,
        "predictor_depth": blocks_in(predictor, "predictor_blocks"),
        "predictor_mlp_ratio": ratio_of(shape(predictor, "predictor_blocks.0.mlp.fc1.weight", 2)[0], narrow),
    }


def _chosen(
    settings: Mapping[str, Any], encoder: Mapping[str, Tensor], predictor: Mapping[str, Tensor]
) -> dict[str, Any]:
    """What is not in the shapes. Raises ConfigurationError."""
    width, narrow = encoder["patch_embed.proj.weight"].shape[0], predictor["action_encoder.weight"].shape[0]
    heads = {
        "num_heads": settings.get("num_heads", HEADS.get(width)),
        "predictor_heads": settings.get("predictor_heads", PREDICTOR_HEADS.get(narrow)),
    }
    for name, value in heads.items():
        if value is None:
            raise ConfigurationError(f"no released model is {width} and {narrow} wide: give {name} in config")
    size = settings.get("img_size", 256)
    height, across = size if isinstance(size, list | tuple) else (size, size)
    channels = encoder["patch_embed.proj.weight"].shape[1]
    shown: dict[str, Any] = {"image": {"kind": "image", "shape": (channels, height, across)}}
    shown[POSE] = {"shape": (VECTORS[POSE],)}
    if settings.get("use_extrinsics"):
        shown[CAMERA] = {"shape": (VECTORS[CAMERA],)}
    given = {"window": "window", "history": "history", "auto_steps": "auto_steps", "loss_exp": "loss_exponent"}
    more = {own: settings[name] for name, own in given.items() if name in settings}
    more.setdefault("history", min(VJEPA2ACConfig.history, more.get("window", VJEPA2ACConfig.window)))
    return {"observation_modalities": shown, **heads, **more}
