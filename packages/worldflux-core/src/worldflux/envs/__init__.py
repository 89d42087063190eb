"""Environments as rows: Gymnasium ids, factories and vector environments behind one small protocol."""

from .make import make_env
from .pixels import PixelEnv
from .random_policy import RandomPolicy
from .step import Step, VectorEnv
from .vector import EnvironmentFailure, SyncVectorEnv

__all__ = ["EnvironmentFailure", "PixelEnv", "RandomPolicy", "Step", "SyncVectorEnv", "VectorEnv", "make_env"]
