"""V-JEPA 2-AC: predicts what actions make of frames, on a frozen encoder, and plans to a goal's picture."""

from __future__ import annotations

from .config import VJEPA2ACConfig
from .model import VJEPA2AC
from .official import load
from .planner import ArmPlanner

__all__ = ["VJEPA2AC", "ArmPlanner", "VJEPA2ACConfig", "load"]
