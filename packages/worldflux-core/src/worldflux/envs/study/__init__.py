"""Environments for study: small worlds of which everything is known, in numpy, many at once."""

from .env import StudyEnv
from .options import StudyOptions
from .policies import POLICIES, StudyPolicy

__all__ = ["POLICIES", "StudyEnv", "StudyOptions", "StudyPolicy"]
