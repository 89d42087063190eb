"""TD-MPC2 keeps every rule of the conformance kit, whatever it observes and does."""

from __future__ import annotations

from worldflux.testing import FamilyConformance


class TestTDMPC2(FamilyConformance):
    family_id = "tdmpc2"


class TestDiscreteActions(FamilyConformance):
    family_id = "tdmpc2"
    options = {"obs_shape": (6,), "action_spec": {"kind": "discrete", "dim": 3}, "prior": "categorical"}
