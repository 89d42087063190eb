"""A small V-JEPA 2-AC, with an arm or without."""

from __future__ import annotations

import pytest
import torch

from worldflux_jepa.vjepa2_ac import VJEPA2AC, VJEPA2ACConfig

SIZES = {
    "patch_size": 8,
    "embed_dim": 24,
    "depth": 1,
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "predictor_dim": 24,
    "predictor_depth": 2,
    "predictor_heads": 2,
    "predictor_mlp_ratio": 2.0,
    "window": 5,
}
IMAGE = {"kind": "image", "shape": (3, 16, 24)}
ARM = {"observation_modalities": {"image": IMAGE, "pose": {"shape": (7,)}}, "action_dim": 7}
SEEN = {"observation_modalities": {**ARM["observation_modalities"], "extrinsics": {"shape": (6,)}}, "action_dim": 7}
PLAIN = {"observation_modalities": {"image": IMAGE}, "action_dim": 2}
KINDS = {"an arm": ARM, "an arm and a camera": SEEN, "no arm": PLAIN}


@pytest.fixture
def build():
    """A model whose weights are not those of the start, which hardly mix anything."""

    def made(shapes=ARM, **more):
        model = VJEPA2AC(VJEPA2ACConfig(**{**SIZES, **shapes, **more})).eval()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        return model

    return made


def observation(model, *lead, seed=0):
    """What the model observes, ``[*lead, ...]``."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randint(0, 256, (*lead, *spec.shape), dtype=torch.uint8, generator=generator)
        if spec.kind.value == "image"
        else 0.3 * torch.randn(*lead, *spec.shape, generator=generator)
        for name, spec in model.config.modalities.items()
    }


def actions(model, *lead, seed=0):
    return 0.3 * torch.randn(*lead, model.config.action_dim, generator=torch.Generator().manual_seed(seed))
