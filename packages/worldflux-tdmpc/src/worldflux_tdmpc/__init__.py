"""TD-MPC2 and MBPO for WorldFlux."""

from __future__ import annotations

from .mbpo import MBPO, MBPOConfig
from .tdmpc2 import TDMPC2, TDMPC2Config, load, official_settings

__all__ = ["MBPO", "TDMPC2", "MBPOConfig", "TDMPC2Config", "load", "official_settings"]
