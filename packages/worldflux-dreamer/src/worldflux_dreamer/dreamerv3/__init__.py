"""DreamerV3: an actor and a critic learn inside a world model."""

from __future__ import annotations

from .config import DreamerV3Config
from .model import DreamerV3
from .official import load
from .official_run import official_settings
from .optim import LaProp
from .policy import DreamerPolicy

__all__ = ["DreamerPolicy", "DreamerV3", "DreamerV3Config", "LaProp", "load", "official_settings"]
