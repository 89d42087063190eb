"""The families keep every rule of the conformance kit."""

from __future__ import annotations

from worldflux.testing import FamilyConformance


class TestTDMPC2(FamilyConformance):
    family_id = "tdmpc2"


class TestMBPO(FamilyConformance):
    family_id = "mbpo"
