"""Judging plans towards goals: how often they are reached, beside chance, with the card of how that was measured."""

from __future__ import annotations

from .evaluation import GoalEvaluation, evaluate_goals
from .probe import LinearProbe, fit_probe
from .seeking import GoalSought, seek_goal
from .together import goals_together

__all__ = ["GoalEvaluation", "GoalSought", "LinearProbe", "evaluate_goals", "fit_probe", "goals_together", "seek_goal"]
