"""The families keep every rule of the conformance kit, whatever they observe and do."""

from __future__ import annotations

from worldflux.testing import FamilyConformance


class TestDreamer(FamilyConformance):
    family_id = "dreamer"


class TestPlaNet(FamilyConformance):
    family_id = "planet"


class TestPlaNetWithImages(FamilyConformance):
    family_id = "planet"
    options = {
        "observation_modalities": {"image": {"kind": "image", "shape": (3, 64, 64)}, "speed": {"shape": (2,)}},
        "action_dim": 2,
        "depth": 2,
        "observation_scale": 0.1,  # it understands what pays sooner
        "horizon": 5,
    }


class TestPlaNetWithDiscreteActions(FamilyConformance):
    family_id = "planet"
    options = {"obs_shape": (6,), "action_spec": {"kind": "discrete", "dim": 3}, "free_nats": 0.0}


class TestDreamerThatPredictsObservationsAlone(FamilyConformance):
    family_id = "dreamer"
    options = {"obs_shape": (6,), "action_dim": 3, "actor_critic": False, "reward_head": False, "continue_head": False}
    without = {"reward_pred", "continue_pred", "value", "policy"}


class TestPlaNetWithoutRewards(FamilyConformance):
    family_id = "planet"
    options = {"obs_shape": (6,), "action_dim": 3, "reward_head": False}
    without = {"reward_pred", "planning", "policy"}
