"""Weights and settings of LeWM as our model."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldflux import CheckpointError, ConfigurationError, did_you_mean
from worldflux.blocks import load_official, plain_file, read_torch

from .config import JEPAConfig
from .model import JEPA

WEIGHTS, SETTINGS = "weights.pt", "config.json"
_LARGEST = 2**20  # bytes of settings

# Names of transformers 5 -> those of transformers 4, in which weights are published.
_LATER = (
    (r"encoder\.layers\.(\d+)\.attention\.([qkv])_proj\.(.*)", r"encoder.encoder.layer.\1.attention.attention.\2.\3"),
    (r"encoder\.layers\.(\d+)\.attention\.o_proj\.(.*)", r"encoder.encoder.layer.\1.attention.output.dense.\2"),
    (r"encoder\.layers\.(\d+)\.mlp\.fc1\.(.*)", r"encoder.encoder.layer.\1.intermediate.dense.\2"),
    (r"encoder\.layers\.(\d+)\.mlp\.fc2\.(.*)", r"encoder.encoder.layer.\1.output.dense.\2"),
    (r"encoder\.layers\.(\d+)\.(layernorm_.*)", r"encoder.encoder.layer.\1.\2"),
)
_SHORT = {"q": "query", "k": "key", "v": "value"}
# Our names -> official ones, by how they begin; # stands for the number of a layer.
_PARTS = {
    "observation_encoder.image.first": "encoder.embeddings.cls_token",
    "observation_encoder.image.positions": "encoder.embeddings.position_embeddings",
    "observation_encoder.image.patch": "encoder.embeddings.patch_embeddings.projection",
    "observation_encoder.image.layers.#.before": "encoder.encoder.layer.#.layernorm_before",
    "observation_encoder.image.layers.#.after": "encoder.encoder.layer.#.layernorm_after",
    "observation_encoder.image.layers.#.query": "encoder.encoder.layer.#.attention.attention.query",
    "observation_encoder.image.layers.#.key": "encoder.encoder.layer.#.attention.attention.key",
    "observation_encoder.image.layers.#.value": "encoder.encoder.layer.#.attention.attention.value",
    "observation_encoder.image.layers.#.out": "encoder.encoder.layer.#.attention.output.dense",
    "observation_encoder.image.layers.#.first": "encoder.encoder.layer.#.intermediate.dense",
    "observation_encoder.image.layers.#.second": "encoder.encoder.layer.#.output.dense",
    "observation_encoder.image.norm": "encoder.layernorm",
    "observation_encoder.projector.#": "projector.net.#",
    "dynamics_model.positions": "predictor.pos_embedding",
    "dynamics_model.actions.smooth": "action_encoder.patch_embed",
    "dynamics_model.actions.first": "action_encoder.embed.0",
    "dynamics_model.actions.second": "action_encoder.embed.2",
    "dynamics_model.blocks.lead": "predictor.transformer.input_proj",
    "dynamics_model.blocks.lead_condition": "predictor.transformer.cond_proj",
    "dynamics_model.blocks.layers.#.attention.norm": "predictor.transformer.layers.#.attn.norm",
    "dynamics_model.blocks.layers.#.attention.qkv": "predictor.transformer.layers.#.attn.to_qkv",
    "dynamics_model.blocks.layers.#.attention.out": "predictor.transformer.layers.#.attn.to_out.0",
    "dynamics_model.blocks.layers.#.mlp.norm": "predictor.transformer.layers.#.mlp.net.0",
    "dynamics_model.blocks.layers.#.mlp.first": "predictor.transformer.layers.#.mlp.net.1",
    "dynamics_model.blocks.layers.#.mlp.second": "predictor.transformer.layers.#.mlp.net.4",
    "dynamics_model.blocks.layers.#.modulation": "predictor.transformer.layers.#.adaLN_modulation.1",
    "dynamics_model.blocks.norm": "predictor.transformer.norm",
    "dynamics_model.blocks.out": "predictor.transformer.output_proj",
    "dynamics_model.head.#": "pred_proj.net.#",
}
_ENDS = r"(?:\.(weight|bias|running_mean|running_var|num_batches_tracked))?"
_HEADS = {"tiny": 3, "small": 6, "base": 12, "large": 16, "huge": 16}  # of a ViT, by the official word for its size
_SECTIONS = ("encoder", "predictor", "action_encoder", "projector", "pred_proj")
# What official settings repeat of the shapes of weights, by section: official name -> ours.
_SIZES = {
    "encoder": {
        "hidden_size": "encoder_units", "num_hidden_layers": "encoder_depth", "intermediate_size": "encoder_mlp",
        "patch_size": "patch_size",
    },
    "predictor": {"num_frames": "history", "depth": "depth", "mlp_dim": "mlp_units", "input_dim": "latent_dim"},
    "action_encoder": {"input_dim": "action_dim", "emb_dim": "latent_dim", "smoothed_dim": "action_units"},
    "projector": {"hidden_dim": "projector_units", "output_dim": "latent_dim", "input_dim": "encoder_units"},
    "pred_proj": {"hidden_dim": "head_units", "output_dim": "latent_dim"},
}  # fmt: skip
# Settings that say nothing that matters here, or are read elsewhere.
_FREE = {
    "encoder": ("_target_", "size", "image_size", "pretrained", "use_mask_token", "num_attention_heads"),
    "predictor": ("_target_", "heads", "dim_head", "hidden_dim", "output_dim", "dropout", "emb_dropout"),
    "action_encoder": ("_target_", "mlp_scale"),
    "projector": ("_target_", "norm_fn", "act_fn"),
    "pred_proj": ("_target_", "norm_fn", "act_fn", "input_dim"),
}


def load(source: Mapping[str, Any] | str | Path, config: Mapping[str, Any] | None = None) -> JEPA:
    """Build our model from LeWM's weights.

    Args:
        source: a folder with ``config.json`` and ``weights.pt``, the file of weights, or a mapping of official names to
            tensors; with the names of transformers 4 (as published) or 5. Files are read with ``weights_only=True``,
            and nothing that settings name is imported.
        config: official settings, of which ``config.json`` beside the weights is the default, and options of
            ``JEPAConfig`` that no weight tells: ``action_mean`` and ``action_std`` (the official program standardises
            actions by its data), ``obs_shape`` of other images, those of training.

    Returns:
        The model in evaluation mode.

    Raises:
        ConfigurationError: settings are missing, unknown or contradict the weights; names or shapes of weights differ
            from what they should be.
        CheckpointError: a file is missing or damaged.
    """
    settings = dict(config or {})
    if not isinstance(source, Mapping):
        folder, file = _places(Path(source))
        settings = {**_settings_in(folder), **settings}
        source = read_torch(file, example=f"a folder with {SETTINGS} and {WEIGHTS}")
    if not isinstance(source, Mapping) or not all(isinstance(name, str) for name in source):
        raise CheckpointError("the weights are no mapping of official names to tensors")
    weights = {published(name): torch.as_tensor(value) for name, value in source.items()}
    if len(weights) < len(source):
        twice = next(name for name in source if name != published(name) and published(name) in source)
        raise ConfigurationError(f"{twice!r} and {published(twice)!r} are one weight under two names: give one of them")
    model = JEPA(official_config(weights, settings))
    load_official(model, weights, official_names(model), convert=_converted)
    return model.eval()


def _places(path: Path) -> tuple[Path, Path]:
    return (path, path / WEIGHTS) if path.is_dir() else (path.parent, path)


def _settings_in(folder: Path) -> dict[str, Any]:
    """What ``config.json`` says, if there is one. Raises CheckpointError for anything but a mapping."""
    file = folder / SETTINGS
    if not file.is_file():
        return {}
    try:
        with plain_file(file) as handle:
            found = json.loads(handle.read(_LARGEST))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file} holds a {type(found).__name__}, expected the settings of LeWM by section")
    return found


def published(name: str) -> str:
    """A weight's name as transformers 4 has it."""
    for later, earlier in _LATER:
        if re.fullmatch(later, name):
            renamed = re.sub(later, earlier, name)
            return re.sub(r"attention\.attention\.([qkv])\.", lambda m: f"attention.attention.{_SHORT[m[1]]}.", renamed)
    return name


def official_names(model: JEPA) -> dict[str, str]:
    """Official name -> our name, for everything that official weights hold."""
    patterns = [(re.escape(own).replace(r"\#", r"(\d+)") + _ENDS, own, theirs) for own, theirs in _PARTS.items()]
    found = {}
    for name in model.state_dict():
        for pattern, _, theirs in patterns:
            if match := re.fullmatch(pattern, name):
                *numbers, end = match.groups()
                found["".join([theirs.replace("#", numbers[0]) if numbers else theirs, f".{end}" if end else ""])] = (
                    name
                )
    return found


def _converted(name: str, value: Tensor) -> Tensor:
    """A weight in our layout."""
    if name == "predictor.pos_embedding":
        return value.squeeze(0)
    return value.squeeze(-1) if name == "action_encoder.patch_embed.weight" and value.ndim == 3 else value


def official_config(weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> JEPAConfig:
    """Take sizes from weights under published names, the rest from settings. Raises ConfigurationError."""
    target = str(settings.get("_target_", "LeWM"))
    if target.rpartition(".")[2] != "LeWM":
        raise ConfigurationError(f"these are the settings of {target!r}: official-lewm reads those of LeWM")
    values = _sizes(weights)
    sections = {name: settings.get(name) or {} for name in _SECTIONS}
    for name, section in sections.items():
        if not isinstance(section, Mapping):
            raise ConfigurationError(f"official setting {name} is a {type(section).__name__}, expected its options")
        _agree(name, section, values)
    values |= _heads(weights, sections, values)
    options = {key: value for key, value in settings.items() if key not in (*_SECTIONS, "_target_")}
    if told := sorted(set(options) & set(values) - {"obs_shape"}):
        raise ConfigurationError(f"the weights tell {told[0]} = {values[told[0]]!r}: leave it out of config")
    return JEPAConfig.from_dict({"model_name": "official", **values, **options})


def _agree(name: str, section: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for settings of a section that are unknown, not supported, or not the weights'."""
    known = (*_SIZES[name], *_FREE[name])
    for key, value in section.items():
        if key not in known:
            raise ConfigurationError(f"unknown official setting {name}.{key}.{did_you_mean(key, known)}")
        own = _SIZES[name].get(key)
        if own is not None and values[own] != value:
            raise ConfigurationError(
                f"official setting {name}.{key} = {value!r}, but the weights have {values[own]!r}: another size"
            )
    norm = section.get("norm_fn")
    target = norm.get("_target_") if isinstance(norm, Mapping) else norm
    if "norm_fn" in section and str(target).rpartition(".")[2] != "BatchNorm1d":
        raise ConfigurationError(f"official setting {name}.norm_fn = {target!r} is not supported, only BatchNorm1d")
    if section.get("emb_dropout"):
        raise ConfigurationError(
            f"official setting {name}.emb_dropout = {section['emb_dropout']!r} is not supported, only 0"
        )


def _heads(
    weights: Mapping[str, Tensor], sections: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any]
) -> dict[str, Any]:
    """How attention is divided, which no shape tells, and dropout. Raises ConfigurationError."""
    encoder, predictor = sections["encoder"], sections["predictor"]
    own = encoder.get("num_attention_heads", _HEADS.get(str(encoder.get("size", "tiny"))))
    heads, together = predictor.get("heads", 16), weights["predictor.transformer.layers.0.attn.to_qkv.weight"].shape[0]
    head_dim = predictor.get("dim_head", together // (3 * heads) if isinstance(heads, int) and heads > 0 else 0)
    for what, count, width in (
        ("predictor.heads", heads, together // 3),
        ("encoder.size", own, values["encoder_units"]),
    ):
        if not isinstance(count, int) or count < 1 or width % count:
            raise ConfigurationError(f"official setting {what} gives {count!r} heads, of {width} numbers together")
    if 3 * heads * head_dim != together:
        raise ConfigurationError(
            f"official settings predictor.heads = {heads!r} and dim_head = {head_dim!r} make {3 * heads * head_dim} "
            f"queries, keys and values, the weights have {together}"
        )
    return {"encoder_heads": own, "heads": heads, "head_dim": head_dim, "dropout": predictor.get("dropout", 0.1)}


def _sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the shapes of weights tell."""

    def shape(name: str, axes: int) -> torch.Size:
        if name not in weights:
            raise ConfigurationError(f"official weights lack {name!r}: this is no LeWM, it holds {sorted(weights)[:3]}")
        if weights[name].ndim != axes or not weights[name].numel():
            raise ConfigurationError(
                f"official weight {name!r} has shape {tuple(weights[name].shape)}, not {axes} axes"
            )
        return weights[name].shape

    def layers(pattern: str) -> int:
        return len({match[1] for name in weights if (match := re.match(pattern, name))})

    units, channels, patch, _ = shape("encoder.embeddings.patch_embeddings.projection.weight", 4)
    patches = shape("encoder.embeddings.position_embeddings", 3)[1] - 1
    side = math.isqrt(max(patches, 0))
    if side < 1 or side * side != patches:
        raise ConfigurationError(f"'encoder.embeddings.position_embeddings' has {patches} patches, which are no square")
    _, history, latent = shape("predictor.pos_embedding", 3)
    smoothed, actions, _ = shape("action_encoder.patch_embed.weight", 3)
    width, (hidden, read) = shape("predictor.transformer.norm.weight", 1)[0], shape("pred_proj.net.0.weight", 2)
    return {
        "obs_shape": (channels, side * patch, side * patch), "action_dim": actions, "encoder": "vit",
        "patch_size": patch, "position_grid": side, "encoder_units": units,
        "encoder_depth": layers(r"encoder\.encoder\.layer\.(\d+)\."),
        "encoder_mlp": shape("encoder.encoder.layer.0.intermediate.dense.weight", 2)[0],
        "projector_units": shape("projector.net.0.weight", 2)[0], "latent_dim": latent, "history": history,
        "units": 0 if width == latent else width, "depth": layers(r"predictor\.transformer\.layers\.(\d+)\."),
        "mlp_units": shape("predictor.transformer.layers.0.mlp.net.1.weight", 2)[0], "action_units": smoothed,
        "head_units": hidden, "head_inputs": 0 if read == width else read, "predictor": "adaln", "projector": "mlp",
    }  # fmt: skip
