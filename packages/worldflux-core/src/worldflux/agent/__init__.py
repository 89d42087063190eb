"""A trained model as something that acts: observations in, the environment's own actions out."""

from __future__ import annotations

from .agent import Agent, agent_of
from .spaces import Spaces, read_spaces, spaces_of, write_spaces

__all__ = ["Agent", "Spaces", "agent_of", "read_spaces", "spaces_of", "write_spaces"]
