"""MBPO-style: an ensemble of dynamics, short rollouts in it, and soft actor-critic."""

from __future__ import annotations

from .config import MBPOConfig
from .model import MBPO
from .termination import LearnedTermination

__all__ = ["MBPO", "LearnedTermination", "MBPOConfig"]
