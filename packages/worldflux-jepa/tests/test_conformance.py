"""The families keep every rule of the conformance kit, whatever they observe and do."""

from __future__ import annotations

from worldflux.testing import FamilyConformance

TRANSFORMER = {
    "learning_rate": 3e-3,
    "dropout": 0.1,
    "history": 3,
    "heads": 2,
    "head_dim": 8,
    "depth": 2,
    "mlp_units": 32,
    "latent_dim": 32,
}


class TestJEPA(FamilyConformance):
    family_id = "jepa"


class TestJEPAWithAWindow(FamilyConformance):
    family_id = "jepa"
    options = {
        "obs_shape": (6,), "action_dim": 3, "predictor": "adaln", **TRANSFORMER, "head_units": 32, "target": "ema",
        "regulariser": "vicreg", "normalise_actions": True,
    }  # fmt: skip


class TestJEPAWithPatches(FamilyConformance):
    family_id = "jepa"
    options = {
        "observation_modalities": {"image": {"kind": "image", "shape": (3, 16, 16)}, "speed": {"shape": (2,)}},
        "action_dim": 2, "encoder": "vit", "patches": True, "patch_size": 8, "encoder_units": 16, "encoder_depth": 1,
        "encoder_heads": 2, "encoder_mlp": 32, "vector_units": 8, "predictor": "concat", **TRANSFORMER,
        "rollout_steps": 1, "depth": 1, "learning_rate": 1e-2,
    }  # fmt: skip


class TestJEPAWithImagesAndChoices(FamilyConformance):
    family_id = "jepa"
    options = {
        "obs_shape": (3, 16, 16), "action_spec": {"kind": "discrete", "dim": 3}, "encoder": "impala",
        "channels": (4, 8), "predictor": "gru", "target": "stopgrad", "learning_rate": 3e-3,
    }  # fmt: skip


class TestVJEPA2AC(FamilyConformance):
    family_id = "vjepa2-ac"


class TestVJEPA2ACOfAnArm(FamilyConformance):
    family_id = "vjepa2-ac"
    options = {
        "observation_modalities": {
            "image": {"kind": "image", "shape": (3, 32, 48)},
            "pose": {"shape": (7,)},
            "extrinsics": {"shape": (6,)},
        },
        "action_dim": 7,
    }


class TestExternal(FamilyConformance):
    family_id = "external"


class TestExternalWithAllPatches(FamilyConformance):
    family_id = "external"
    options = {"obs_shape": (3, 32, 32), "action_dim": 2, "pool": "patches"}
