"""TD-MPC2: a world model without a decoder, and a policy that plans in it at every step."""

from __future__ import annotations

from .config import TDMPC2Config
from .model import TDMPC2
from .official import load, official_settings
from .policy import PlanningPolicy

__all__ = ["TDMPC2", "PlanningPolicy", "TDMPC2Config", "load", "official_settings"]
