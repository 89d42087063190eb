"""Small encoders: one that needs no package, one of ``transformers``, and folders as it writes them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from worldflux_jepa.external.kinds import KINDS
from worldflux_jepa.external.patches import PATCHES
from worldflux_jepa.external.preprocess import PixelRules
from worldflux_jepa.external.weights import drawn

SIZES = {"patch_size": 8, "hidden_size": 12}
CLASSES = {
    "dinov2": {"image_size": 16},
    "dinov2-registers": {"image_size": 16, "num_register_tokens": 3},
    "dinov3": {"image_size": 16, "hidden_size": 16, "num_register_tokens": 4, "intermediate_size": 24},
    "ijepa": {"image_size": 16, "intermediate_size": 24},
    "vit": {"image_size": 16, "intermediate_size": 24},
    "vjepa2": {
        "crop_size": 16,
        "tubelet_size": 2,
        "hidden_size": 32,
        "mlp_ratio": 2.0,
        "pred_hidden_size": 32,
        "pred_num_attention_heads": 2,
        "pred_num_hidden_layers": 1,
    },
}


class Spy(nn.Module):
    """Answers as a class of ``transformers``: the mean colour of each patch behind ``prefix`` tokens of -1."""

    def __init__(self, prefix: int = 0, *, patch: int = 8, width: int = 12) -> None:
        super().__init__()
        self.prefix, self.patch, self.width = prefix, patch, width
        self.drop, self.weight = nn.Dropout(0.5), nn.Parameter(torch.ones(()))
        self.asked: list[dict[str, torch.Tensor]] = []

    def forward(self, **given):
        self.asked.append(given)
        pixels = given.get("pixel_values")
        if pixels is None:
            pixels = given["pixel_values_videos"].mean(1)
        patches = nn.functional.avg_pool2d(pixels.mean(1, keepdim=True), self.patch).flatten(1).unsqueeze(-1)
        tokens = self.drop(self.weight * patches.expand(-1, -1, self.width))
        before = tokens.new_full((len(tokens), self.prefix, self.width), -1.0)
        return SimpleNamespace(last_hidden_state=torch.cat([before, tokens], 1))


def weights_of(name: str = "patches", *, seed: int = 0, size: int = 16, **more):
    """Weights that are drawn, of pictures that are left as they are."""
    kind = PATCHES if name == "patches" else KINDS[name]
    return drawn(kind, {**SIZES, **more}, PixelRules(size, size, (0.0,) * 3, (1.0,) * 3), seed=seed)


@pytest.fixture
def written(tmp_path):
    """Writes a folder with a tiny random encoder of a kind, by ``transformers``."""
    transformers = pytest.importorskip("transformers")

    def write(name: str, **more):
        made = getattr(transformers, KINDS[name].class_name)
        common = {"num_hidden_layers": 1, "num_attention_heads": 2, **SIZES}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made(made.config_class(**{**common, **CLASSES[name], **more})).save_pretrained(tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def folder(tmp_path):
    """Writes a folder that looks like an encoder's, without ``transformers``; None leaves a key out."""

    def write(**changes):
        config = {"model_type": "dinov2", "architectures": ["Dinov2Model"], **SIZES, "image_size": 16, **changes}
        place = tmp_path / "encoder"
        place.mkdir(exist_ok=True)
        (place / "config.json").write_text(json.dumps({key: v for key, v in config.items() if v is not None}))
        save_file({"weight": torch.ones(2)}, place / "model.safetensors")
        return place

    return write
