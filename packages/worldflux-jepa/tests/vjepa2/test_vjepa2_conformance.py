"""The family keeps every rule of the conformance kit."""

from __future__ import annotations

from worldflux.testing import FamilyConformance


class TestVJEPA2(FamilyConformance):
    family_id = "vjepa2"


class TestVJEPA2WithOfficialMasksAndSeveralLengths(FamilyConformance):
    family_id = "vjepa2"
    options = {"action_dim": 2, "masking": "official", "mask_mode": "after", "clip_frames": (4, 2)}
