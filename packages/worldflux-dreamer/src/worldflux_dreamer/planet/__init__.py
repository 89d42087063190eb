"""PlaNet: plans in latents at every step."""

from __future__ import annotations

from .config import PlaNetConfig
from .model import PlaNet

__all__ = ["PlaNet", "PlaNetConfig"]
