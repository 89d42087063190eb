"""Measuring policies and world models: returns, imagination, evaluation by horizon, and the pictures of all three."""

from __future__ import annotations

from .bootstrap import Curve, Number, iqm, iqm_interval
from .curve import read_metrics, save_learning_curve, series
from .goals import GoalEvaluation, GoalSought, LinearProbe, evaluate_goals, fit_probe, goals_together, seek_goal
from .horizon import LEVELS, HorizonEvaluation, Level, evaluate_horizon, horizon_in_words, save_pictures
from .imagination import Imagination, imagine
from .metrics import mse, psnr, ssim
from .policy import EvalResult, evaluate_policy, random_baseline
from .preview import contact_sheet, episode_animation
from .runs import across_runs, earned_across_runs
from .segments import Segments, record_segments
from .video import animation_path, save_animation
from .words import imagination_in_words, returns_in_words

__all__ = [
    "LEVELS",
    "Curve",
    "EvalResult",
    "GoalEvaluation",
    "GoalSought",
    "HorizonEvaluation",
    "Imagination",
    "Level",
    "LinearProbe",
    "Number",
    "Segments",
    "across_runs",
    "animation_path",
    "contact_sheet",
    "episode_animation",
    "earned_across_runs",
    "evaluate_goals",
    "evaluate_horizon",
    "evaluate_policy",
    "fit_probe",
    "goals_together",
    "horizon_in_words",
    "imagination_in_words",
    "imagine",
    "iqm",
    "iqm_interval",
    "mse",
    "psnr",
    "random_baseline",
    "read_metrics",
    "record_segments",
    "returns_in_words",
    "save_animation",
    "save_learning_curve",
    "save_pictures",
    "seek_goal",
    "series",
    "ssim",
]
