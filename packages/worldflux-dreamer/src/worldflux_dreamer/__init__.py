"""DreamerV3 and PlaNet for WorldFlux."""

from __future__ import annotations

from .dreamerv3 import DreamerPolicy, DreamerV3, DreamerV3Config, LaProp, load, official_settings
from .planet import PlaNet, PlaNetConfig

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
