"""Environments as rows: Gymnasium, dm_env, and vectors of them behind one small protocol."""

from .dm import DmEnv
from .goal_vector import GoalVectorEnv
from .goals import GoalEnv, Goals
from .make import make_env
from .pixels import PixelEnv
from .random_policy import PersistentPolicy, RandomPolicy
from .skipping import FrameSkip
from .stack import FrameStack
from .step import Step, VectorEnv
from .vector import EnvironmentFailure, SyncVectorEnv

__all__ = [
    "DmEnv",
    "EnvironmentFailure",
    "FrameSkip",
    "FrameStack",
    "GoalEnv",
    "GoalVectorEnv",
    "Goals",
    "PersistentPolicy",
    "PixelEnv",
    "RandomPolicy",
    "Step",
    "SyncVectorEnv",
    "VectorEnv",
    "make_env",
]
