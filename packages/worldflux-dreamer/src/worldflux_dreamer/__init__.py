"""DreamerV3 and PlaNet for WorldFlux."""

from __future__ import annotations

from .config import DreamerV3Config
from .import_official import load
from .model import DreamerV3
from .official_settings import official_settings
from .optim import LaProp
from .planet import PlaNet, PlaNetConfig
from .policy import DreamerPolicy

__all__ = [
    "DreamerPolicy",
    "DreamerV3",
    "DreamerV3Config",
    "LaProp",
    "PlaNet",
    "PlaNetConfig",
    "load",
    "official_settings",
]
