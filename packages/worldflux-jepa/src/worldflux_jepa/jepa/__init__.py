"""The family ``jepa``: predict in representation space, plan towards a goal."""

from __future__ import annotations

from .config import JEPAConfig
from .model import JEPA

__all__ = ["JEPA", "JEPAConfig"]
