"""The kit without a test file: ``pytest --pyargs worldflux.testing.suite --worldflux-family=mine`` (or ``=all``)."""

from __future__ import annotations

from .conformance import FamilyConformance


class TestFamily(FamilyConformance):
    """Every check on every family that was asked for on the command line."""
