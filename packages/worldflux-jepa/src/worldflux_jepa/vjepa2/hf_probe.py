"""The attentive probe of a classifier in the layout of ``transformers``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldflux import ConfigurationError
from worldflux.blocks import load_official

from .hf import DEFAULTS, HEADS, joined, read_folder
from .probe import AttentiveProbe

_NAMES = (
    (r"pooler\.self_attention_layers\.(\d+)\.", r"pooler.blocks.\1."),
    (r"pooler\.cross_attention_layer\.", "pooler.cross_attention_block."),
    (r"layer_norm([12])\.", r"norm\1."),
    (r"self_attn\.out_proj\.", "attn.proj."),
    (r"cross_attn\.q_proj\.", "xattn.q."),
    (r"classifier\.", "linear."),
)
# one tensor of ours -> those of theirs, in order
_PARTS = {"attn.qkv.": ("self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."),
          "xattn.kv.": ("cross_attn.k_proj.", "cross_attn.v_proj.")}  # fmt: skip


def load_probe(source: Mapping[str, Any] | str | Path, config: Mapping[str, Any] | None = None) -> AttentiveProbe:
    """Build the attentive probe of a ``VJEPA2ForVideoClassification``, in evaluation mode.

    Args:
        source: its folder, or a mapping of its names to arrays; the encoder's are left alone.
        config: for a mapping, what ``config.json`` holds.

    Its norms have the eps of ``config.json`` (1e-6 where it says none), the official probe's 1e-5.

    Raises:
        ConfigurationError: names are missing or unknown, or shapes differ.
        CheckpointError: a file is missing or damaged.
    """
    if isinstance(source, Mapping):
        about, weights = dict(config or {}), {str(name): torch.as_tensor(value) for name, value in source.items()}
    else:
        about, weights = read_folder(Path(source))
    told = {**DEFAULTS, "num_pooler_layers": 3, **about}
    held = {name: value for name, value in weights.items() if name.startswith(HEADS)}
    if "classifier.weight" not in held:
        raise ConfigurationError(
            f"the weights hold no 'classifier.weight', only {sorted(weights)[:3]} ({len(weights)} names in all): is "
            "this a VJEPA2ForVideoClassification?"
        )
    probe = AttentiveProbe(
        told["hidden_size"],
        len(held["classifier.weight"]),
        heads=told["num_attention_heads"],
        depth=told["num_pooler_layers"] + 1,
        mlp_ratio=told["mlp_ratio"],
        eps=told["layer_norm_eps"],
    )
    merged = _merged(held)
    load_official(probe, merged, {name: name for name in probe.state_dict()})
    return probe.eval()


def _merged(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their tensors by our names; those that are one tensor here put together."""
    taken: dict[str, dict[str, Tensor]] = {}
    for name, value in held.items():
        own, part = name, ""
        for ours, theirs in _PARTS.items():
            for their in theirs:
                if their in name:
                    own, part = name.replace(their, ours), their
        for pattern, ours in _NAMES:
            own = re.sub(pattern, ours, own)
        taken.setdefault(own, {})[part] = value
    found = {}
    for own, parts in taken.items():
        wanted = next((theirs for ours, theirs in _PARTS.items() if ours in own), ("",))
        if missing := [part for part in wanted if part not in parts]:
            raise ConfigurationError(f"the probe lacks the {missing[0]!r} tensor that belongs to {own!r}")
        found[own] = joined([parts[part] for part in wanted])
    return found
