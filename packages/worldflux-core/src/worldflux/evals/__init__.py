"""Measuring policies and world models: returns, open-loop imagination, and the pictures of both."""

from __future__ import annotations

from .curve import read_metrics, save_learning_curve, series
from .imagination import Imagination, imagine
from .policy import EvalResult, evaluate_policy, random_baseline
from .segments import Segments, record_segments
from .video import animation_path, save_animation
from .words import imagination_in_words, returns_in_words

__all__ = [
    "EvalResult",
    "Imagination",
    "Segments",
    "animation_path",
    "evaluate_policy",
    "imagination_in_words",
    "imagine",
    "random_baseline",
    "read_metrics",
    "record_segments",
    "returns_in_words",
    "save_animation",
    "save_learning_curve",
    "series",
]
