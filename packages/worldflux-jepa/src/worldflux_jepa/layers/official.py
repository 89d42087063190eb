"""Official files of V-JEPA 2 and of what is built on it: their parts, names without wrappers, and what shapes tell."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from worldflux import ConfigurationError

PARTS = ("encoder", "predictor", "target_encoder")
PREFIXES = ("module.backbone.", "module.", "backbone.")
POSITIONS = ("pos_embed", "predictor_pos_embed")  # of files from before rotary positions: what nothing reads
# What only V-JEPA 2.1 has: tokenizers and embeddings of modalities, norms of intermediate layers, predicted context.
LATER = ("patch_embed_img.", "img_mod_embed", "video_mod_embed", "norms_block.", "predictor_proj_context.")
HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 22}  # of the official encoders, by width


def official_parts(content: Any) -> dict[str, dict[str, Tensor]]:
    """The parts of an official checkpoint, names without their wrappers' prefixes. Raises ConfigurationError."""
    if not isinstance(content, Mapping):
        raise ConfigurationError(f"official weights are a mapping of parts, got a {type(content).__name__}")
    if "classifiers" in content:
        raise ConfigurationError(
            "these are attentive probes, not an encoder: worldflux_jepa.vjepa2.load_probe reads them"
        )
    refuse_later(content)
    found = {name: content[name] for name in PARTS if isinstance(content.get(name), Mapping)}
    if not found:
        raise ConfigurationError(
            f"official weights hold none of {list(PARTS)}, but {sorted(map(str, content))[:5]}: is this V-JEPA 2's?"
        )
    return {name: bare(held) for name, held in found.items()}


def bare(held: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Names without their wrappers' prefixes, and tensors. Raises ConfigurationError where two names become one."""
    weights: dict[str, Tensor] = {}
    for given, value in held.items():
        if (name := short(given)) in weights:
            raise ConfigurationError(f"official weights hold {name!r} twice, with and without a wrapper's prefix")
        if name not in POSITIONS:
            weights[name] = torch.as_tensor(value)
    return weights


def short(name: Any) -> str:
    """A name without its wrappers' prefixes."""
    bare_name = str(name)
    for prefix in PREFIXES:
        bare_name = bare_name.removeprefix(prefix)
    return bare_name


def refuse_later(content: Mapping[Any, Any]) -> None:
    """Raise ConfigurationError for the weights of V-JEPA 2.1, wherever in a checkpoint they stand."""
    names = [short(name) for held in content.values() if isinstance(held, Mapping) for name in held]
    if found := [name for name in names if name.startswith(LATER)]:
        raise ConfigurationError(
            f"these are weights of V-JEPA 2.1 (it has {found[0]!r}), another architecture, which is not supported: "
            "take a V-JEPA 2 file such as vitl.pt, vith.pt or vitg.pt"
        )


def ratio_of(hidden: int, width: int) -> float:
    """What a width is multiplied by, and cut to a whole number, to give the hidden one."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def blocks_in(held: Iterable[str], stack: str) -> int:
    """How many blocks a stack has, by the highest number among names."""
    numbers = [int(match[1]) for name in held if (match := re.match(rf"{re.escape(stack)}\.(\d+)\.", name))]
    return max(numbers, default=-1) + 1
