"""Minari's datasets, read without Minari."""

from .reading import Minari

__all__ = ["Minari"]
