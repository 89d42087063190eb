"""V-JEPA 2 in the layout of ``transformers``: ``config.json`` and ``model.safetensors``, read and written."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from worldflux import CheckpointError, ConfigurationError, did_you_mean
from worldflux.blocks import load_official, plain_file

from ..layers.official import blocks_in
from .config import VJEPA2Config
from .model import VJEPA2

LARGEST_CONFIG = 1 << 20  # bytes
# their option -> ours
OPTIONS = {
    "patch_size": "patch_size", "tubelet_size": "tubelet_size", "hidden_size": "embed_dim",
    "num_attention_heads": "num_heads", "num_hidden_layers": "depth", "mlp_ratio": "mlp_ratio", "qkv_bias": "qkv_bias",
    "pred_hidden_size": "pred_embed_dim", "pred_num_attention_heads": "pred_num_heads",
    "pred_num_hidden_layers": "pred_depth", "pred_mlp_ratio": "pred_mlp_ratio",
    "pred_num_mask_tokens": "num_mask_tokens",
}  # fmt: skip
# What transformers leaves out of a file where it is as here.
DEFAULTS = {
    "patch_size": 16, "tubelet_size": 2, "hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 24,
    "mlp_ratio": 4.0, "qkv_bias": True, "pred_hidden_size": 384, "pred_num_attention_heads": 12,
    "pred_num_hidden_layers": 12, "pred_mlp_ratio": 4.0, "pred_num_mask_tokens": 10, "crop_size": 256,
    "frames_per_clip": 64, "in_chans": 3, "layer_norm_eps": 1e-6, "hidden_act": "gelu",
}  # fmt: skip
OURS = ("mask_index", "mask_mode", "rope_layout", "clip_frames")  # what a caller may choose
LATER = re.compile(r"patch_embeddings_img\.|(?:img|video)_mod_embed|norms_block\.")  # what only V-JEPA 2.1 has
HEADS = ("pooler.", "classifier.")  # of classifiers: the probe's, which ``load_probe`` reads


class Piece(NamedTuple):
    """Where a tensor of theirs goes: our name, and which third of its rows; None for all of them."""

    own: str
    third: int | None = None


def load(source: Mapping[str, Any] | str | Path, config: Mapping[str, Any] | None = None) -> VJEPA2:
    """Build our model from a folder in the layout of ``transformers``, or from a mapping of its names.

    Args:
        source: a folder with ``config.json`` and ``model.safetensors`` (or several ``model-….safetensors``), written
            by transformers 4 or 5, of a ``VJEPA2Model`` or a classifier on one; or a mapping of names to arrays.
        config: for a mapping, what ``config.json`` holds. Beside it (or alone, for a folder) ``mask_index`` (1 where
            it is not given: transformers reads the second mask token), ``mask_mode`` ("after" where it is not given),
            ``rope_layout`` and ``clip_frames``.

    Returns:
        The model in evaluation mode, its target encoder as the encoder.

    Raises:
        ConfigurationError: names are missing or unknown, shapes differ, or the config is another architecture's.
        CheckpointError: a file is missing or damaged.
    """
    given = dict(config or {})
    chosen = {name: given.pop(name) for name in OURS if name in given}
    if isinstance(source, Mapping):
        about, weights = given, {str(name): torch.as_tensor(value) for name, value in source.items()}
    else:
        if given:
            raise ConfigurationError(
                f"unknown option {next(iter(given))!r} beside a folder, whose config.json says the rest: expected "
                f"{list(OURS)}.{did_you_mean(next(iter(given)), OURS)}"
            )
        about, weights = read_folder(Path(source))
    weights = current(weights)
    if later := [name for name in weights if LATER.search(name)]:
        raise ConfigurationError(f"these are weights of V-JEPA 2.1 (it has {later[0]!r}), which is not supported")
    model = VJEPA2(our_config(about, weights, chosen))
    pieces = hf_names(model)
    refuse_other_names(weights, pieces)
    gathered: dict[str, list[str]] = {}
    for name, piece in pieces.items():
        gathered.setdefault(piece.own, []).append(name)
    tokens = len(model.mask_token_norms())
    found = {" + ".join(names): joined([weights[name] for name in names]) for names in gathered.values()}
    names = {" + ".join(names): own for own, names in gathered.items()}
    names |= {f"{MASK_TOKENS}[{index}]": f"predictor.mask_tokens.{index}" for index in range(tokens)}
    found |= _tokens(weights[MASK_TOKENS], tokens)
    load_official(model, found, names)
    model.target_encoder.load_state_dict(model.observation_encoder.state_dict())
    return model.eval()


def export(model: VJEPA2, folder: str | Path) -> Path:
    """Write a model as ``transformers.VJEPA2Model.from_pretrained(folder)`` reads it, and return the folder.

    Only the encoder and the predictor are written; the target encoder and the masks have no place there.

    Raises:
        ConfigurationError: transformers has no such model: another rotary layout, pictures that are not square, or
            norms of different eps.
        CheckpointError: the folder cannot be written.
    """
    about, held = their_config(model.config), model.state_dict()
    weights: dict[str, Tensor] = {}
    for name, (own, third) in hf_names(model).items():
        weights[name] = (held[own] if third is None else held[own].chunk(3)[third]).detach().cpu().contiguous().clone()
    tokens = [held[f"predictor.mask_tokens.{index}"] for index in range(model.config.num_mask_tokens)]
    weights[MASK_TOKENS] = torch.stack(tokens).detach().cpu().contiguous()
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        staged = target / "model.safetensors.part"
        save_file(weights, staged, metadata={"format": "pt"})
        os.replace(staged, target / "model.safetensors")
        (target / "config.json").write_text(json.dumps(about, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"could not write {target}: {error}") from error
    return target


# --- names ------------------------------------------------------------------------------------------------------------

MASK_TOKENS = "predictor.embeddings.mask_tokens"  # all of them in one tensor [n, 1, 1, P]
_OUTSIDE = {
    "observation_encoder.patch_embed.": "encoder.embeddings.patch_embeddings.",
    "observation_encoder.norm.": "encoder.layernorm.",
    "predictor.predictor_embed.": "predictor.embeddings.predictor_embeddings.",
    "predictor.predictor_norm.": "predictor.layernorm.",
    "predictor.predictor_proj.": "predictor.proj.",
}
_STACKS = {"observation_encoder.blocks.": "encoder.layer.", "predictor.predictor_blocks.": "predictor.layer."}


def hf_names(model: VJEPA2) -> dict[str, Piece]:
    """Their name -> our place, for all but the mask tokens."""
    found = {}
    for own in model.state_dict():
        for ours, theirs in (*_OUTSIDE.items(), *_STACKS.items()):
            if own.startswith(ours):
                name = theirs + own.removeprefix(ours)
                for their, piece in _of_attention(name, own):
                    found[their] = piece
    return found


def _of_attention(name: str, own: str) -> Iterator[tuple[str, Piece]]:
    """A name as theirs: queries, keys and values are one tensor here and three there."""
    if match := re.fullmatch(r"(.*\.)attn\.qkv\.(weight|bias)", name):
        for third, part in enumerate(("query", "key", "value")):
            yield f"{match[1]}attention.{part}.{match[2]}", Piece(own, third)
    else:
        yield name.replace(".attn.proj.", ".attention.proj."), Piece(own)


def current(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names of files: those of a classifier's inside, of transformers 5 in memory, are told apart.

    Raises ConfigurationError where two names mean one tensor.
    """
    inner = any(name.startswith("vjepa2.") for name in weights)
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        if inner and name.startswith(HEADS):
            continue
        short = re.sub(r"^((?:encoder|predictor)\.)layers\.", r"\1layer.", name.removeprefix("vjepa2."))
        short = re.sub(r"\.attention\.(?:o|out)_proj\.", ".attention.proj.", short)
        for part in ("query", "key", "value"):
            short = short.replace(f".attention.{part[0]}_proj.", f".attention.{part}.")
        if short in found:
            raise ConfigurationError(f"the weights hold {short!r} twice, by its names of transformers 4 and 5")
        found[short] = value
    return found


def refuse_other_names(weights: Mapping[str, Tensor], pieces: Mapping[str, Piece]) -> None:
    """Raise ConfigurationError for names that are missing or belong to no part of the model."""
    wanted = {*pieces, MASK_TOKENS}
    missing, unknown = sorted(wanted - set(weights)), sorted(set(weights) - wanted)
    if missing:
        near = did_you_mean(missing[0], unknown)
        raise ConfigurationError(f"the weights lack {missing[:3]} ({len(missing)} in all).{near}")
    if unknown:
        near = did_you_mean(unknown[0], wanted)
        raise ConfigurationError(
            f"the weights hold {unknown[:3]} ({len(unknown)} in all), which belong to no part of the model.{near}"
        )


def joined(parts: list[Tensor]) -> Tensor:
    try:
        return torch.cat(parts) if len(parts) > 1 else parts[0]
    except RuntimeError as error:
        shapes = [tuple(part.shape) for part in parts]
        raise ConfigurationError(f"queries, keys and values have shapes {shapes} that do not go together") from error


def _tokens(stacked: Tensor, count: int) -> dict[str, Tensor]:
    if stacked.ndim != 4 or len(stacked) != count:
        raise ConfigurationError(
            f"{MASK_TOKENS!r} has shape {tuple(stacked.shape)}, but pred_num_mask_tokens is {count}"
        )
    return {f"{MASK_TOKENS}[{index}]": token for index, token in enumerate(stacked)}


# --- config -----------------------------------------------------------------------------------------------------------


def our_config(about: Mapping[str, Any], weights: Mapping[str, Tensor], chosen: Mapping[str, Any]) -> VJEPA2Config:
    """The config of what ``config.json`` describes. Raises ConfigurationError for another architecture or depth."""
    kind = about.get("model_type", "vjepa2")
    if kind != "vjepa2":
        hint = " (V-JEPA 2.1, another architecture)" if re.fullmatch(r"vjepa_?2[_.]?1", str(kind)) else ""
        raise ConfigurationError(f"config.json is of model_type {kind!r}{hint}, expected 'vjepa2'")
    told = {**DEFAULTS, **about}
    if told["hidden_act"] != "gelu":
        raise ConfigurationError(f"hidden_act {told['hidden_act']!r} is not supported, only 'gelu'")
    for option, stack in (("num_hidden_layers", "encoder.layer"), ("pred_num_hidden_layers", "predictor.layer")):
        if (depth := blocks_in(weights, stack)) != told[option]:
            raise ConfigurationError(
                f"config.json says {option} = {told[option]!r}, but the weights have {depth} of {stack}: this is a "
                "checkpoint of another depth"
            )
    tokens = told["pred_num_mask_tokens"]
    values: dict[str, Any] = {own: told[name] for name, own in OPTIONS.items()}
    values |= {"encoder_eps": told["layer_norm_eps"], "predictor_eps": told["layer_norm_eps"]}
    values |= {"mask_index": 1 % tokens if isinstance(tokens, int) and tokens else 0, "mask_mode": "after"}
    frames = told["frames_per_clip"]
    side = (told["crop_size"],) * 2
    return VJEPA2Config.from_dict(
        {"model_name": "hf", "obs_shape": (told["in_chans"], *side), "clip_frames": (frames,), **values, **chosen}
    )


def their_config(config: VJEPA2Config) -> dict[str, Any]:
    """What ``config.json`` says of a model. Raises ConfigurationError where transformers has none like it."""
    height, width = config.obs_shape[1:]
    for wrong, why in (
        (
            config.rope_layout != "vjepa2",
            f"rope_layout {config.rope_layout!r}: transformers turns channels as 'vjepa2'",
        ),
        (height != width, f"pictures of {height} x {width} pixels: transformers takes squares only"),
        (
            config.encoder_eps != config.predictor_eps,
            f"encoder_eps {config.encoder_eps} and predictor_eps {config.predictor_eps}: transformers has one for both",
        ),
    ):
        if wrong:
            raise ConfigurationError(f"this model cannot be written for transformers: {why}")
    return {
        **{name: getattr(config, own) for name, own in OPTIONS.items()},
        "architectures": ["VJEPA2Model"], "model_type": "vjepa2", "crop_size": height, "in_chans": config.obs_shape[0],
        "frames_per_clip": max(config.clip_frames), "layer_norm_eps": config.encoder_eps, "hidden_act": "gelu",
        "drop_path_rate": 0.0, "attention_probs_dropout_prob": 0.0, "pred_zero_init_mask_tokens": True,
    }  # fmt: skip


# --- files ------------------------------------------------------------------------------------------------------------


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What ``config.json`` says, and the weights beside it. Raises CheckpointError where one is missing or damaged."""
    about_file = folder / "config.json"
    files = [folder / "model.safetensors"]
    if not files[0].is_file():
        files = sorted(folder.glob("model-*.safetensors"))
    if not about_file.is_file() or not files:
        raise CheckpointError(
            f"{folder} is no folder of a V-JEPA 2: expected config.json and model.safetensors, as "
            "VJEPA2Model.save_pretrained writes them"
        )
    try:
        with plain_file(about_file) as handle:
            about = json.loads(handle.read(LARGEST_CONFIG))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{about_file} cannot be read: {error}") from error
    if not isinstance(about, dict):
        raise CheckpointError(f"{about_file} holds a {type(about).__name__}, expected options by name")
    weights: dict[str, Tensor] = {}
    for file in files:
        try:
            with safe_open(file, "pt") as held:
                weights |= {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file} cannot be read: {error}") from error
    return about, weights
