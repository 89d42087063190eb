"""DreamerV3 keeps every rule of the conformance kit."""

from __future__ import annotations

from worldflux.testing import FamilyConformance


class TestDreamer(FamilyConformance):
    family_id = "dreamer"
