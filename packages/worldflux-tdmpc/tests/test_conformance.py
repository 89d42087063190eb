"""The families keep every rule of the conformance kit, whatever they observe and do."""

from __future__ import annotations

from worldflux.testing import FamilyConformance


class TestTDMPC2(FamilyConformance):
    family_id = "tdmpc2"


class TestTDMPC2WithEpisodesThatEnd(FamilyConformance):
    family_id = "tdmpc2"
    options = {"obs_shape": (6,), "action_dim": 2, "episodic": True}


class TestTDMPC2WithImages(FamilyConformance):
    family_id = "tdmpc2"
    options = {
        "observation_modalities": {"image": {"kind": "image", "shape": (3, 64, 64)}, "speed": {"shape": (2,)}},
        "action_dim": 2,
    }


class TestTDMPC2WithDiscreteActions(FamilyConformance):
    family_id = "tdmpc2"
    options = {"obs_shape": (6,), "action_spec": {"kind": "discrete", "dim": 3}}


class TestTDMPC2WithSeveralTasks(FamilyConformance):
    family_id = "tdmpc2"
    options = {"obs_shape": (6,), "action_dim": 3, "num_tasks": 3, "action_dims": (2, 3, 1)}


class TestMBPO(FamilyConformance):
    family_id = "mbpo"


class TestMBPOWithSeveralVectors(FamilyConformance):
    family_id = "mbpo"
    options = {"observation_modalities": {"place": {"shape": (3,)}, "speed": {"shape": (2, 2)}}, "action_dim": 2}
