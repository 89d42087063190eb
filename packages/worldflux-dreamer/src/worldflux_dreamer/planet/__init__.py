"""PlaNet: plans in latents at every step."""

from __future__ import annotations

from .config import PlaNetConfig
from .model import PlaNet
from .policy import PlaNetPolicy

__all__ = ["PlaNet", "PlaNetConfig", "PlaNetPolicy"]
