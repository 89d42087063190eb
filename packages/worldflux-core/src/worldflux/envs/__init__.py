"""Environments as rows: Gymnasium, dm_env, and vectors of them behind one small protocol."""

from .dm import DmEnv
from .make import make_env
from .pixels import PixelEnv
from .random_policy import RandomPolicy
from .stack import FrameStack
from .step import Step, VectorEnv
from .vector import EnvironmentFailure, SyncVectorEnv

__all__ = [
    "DmEnv",
    "EnvironmentFailure",
    "FrameStack",
    "PixelEnv",
    "RandomPolicy",
    "Step",
    "SyncVectorEnv",
    "VectorEnv",
    "make_env",
]
