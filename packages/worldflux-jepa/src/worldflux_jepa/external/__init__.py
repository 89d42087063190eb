"""Encoders that others trained, frozen: as a model of their own, or as the encoder of another family."""

from __future__ import annotations

from .config import ExternalConfig
from .encoders import FrozenEncoder
from .kinds import KINDS
from .model import External
from .part import PretrainedEncoder, pretrained
from .weights import Weights, weights_at

__all__ = [
    "KINDS",
    "External",
    "ExternalConfig",
    "FrozenEncoder",
    "PretrainedEncoder",
    "Weights",
    "pretrained",
    "weights_at",
]
