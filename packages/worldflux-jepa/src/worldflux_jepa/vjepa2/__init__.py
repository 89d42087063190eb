"""V-JEPA 2: what is hidden of a clip is predicted from what is shown, in representation space."""

from __future__ import annotations

from . import hf, hf_probe
from .config import VJEPA2Config
from .model import VJEPA2
from .official import load
from .probe import AttentiveProbe, load_probe

__all__ = ["VJEPA2", "AttentiveProbe", "VJEPA2Config", "hf", "hf_probe", "load", "load_probe"]
