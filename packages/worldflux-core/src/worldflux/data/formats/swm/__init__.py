"""Sets of stable-worldmodel, read without it."""

from .reading import StableWorldModel

__all__ = ["StableWorldModel"]
