"""Evaluation by horizon: what a world model predicts of unseen episodes, beside what it has to beat."""

from .evaluation import HorizonEvaluation, evaluate_horizon
from .evidence import LEVELS, Level
from .pictures import save_pictures
from .words import horizon_in_words

__all__ = ["LEVELS", "HorizonEvaluation", "Level", "evaluate_horizon", "horizon_in_words", "save_pictures"]
