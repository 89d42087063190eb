"""TD-MPC2 for WorldFlux."""

from __future__ import annotations

from .config import TDMPC2Config
from .import_official import load
from .model import TDMPC2
from .official_settings import official_settings
from .optim import TwoPhaseAdam

__all__ = ["TDMPC2", "TDMPC2Config", "TwoPhaseAdam", "load", "official_settings"]
