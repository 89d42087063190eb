"""TD-MPC2's data, read without tensordict."""

from .reading import TDMPC2

__all__ = ["TDMPC2"]
