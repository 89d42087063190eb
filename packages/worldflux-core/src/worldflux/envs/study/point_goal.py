"""Point goal: a point moves in an empty square."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .drawing import Window
from .draws import Draws
from .factors import COMMON, Looks, number
from .task import Array, Task, reach, somewhere, span, within


class PointGoal(Task):
    """A point and a place to be at; 32 x 32 pixels by default."""

    name = "point-goal"
    state_names = ("agent_x", "agent_y")
    parts: ClassVar[dict[str, int]] = {"agent": 2}
    factors = (
        *COMMON,
        number("agent_size", 0.06, 0.04, 0.09, "radius of the agent"),
        number("border", 0.04, 0.02, 0.08, "thickness of the border"),
        number("speed", 0.06, 0.03, 0.1, "of an action of 1, a step"),
    )
    reach = max(one.high for one in factors if one.name == "agent_size")
    size, limit, radius = 32, 50, 4.5 / 65

    def place(self, draws: Draws, name: str, count: int | Array, looks: Looks) -> Array:
        """See :class:`Task`."""
        return somewhere(draws, name, count, looks)

    def valid(self, states: Array, looks: Looks) -> Array:
        """See :class:`Task`."""
        return within(states[:, :2], looks)

    def move(self, states: Array, actions: Array, looks: Looks) -> Array:
        """See :class:`Task`."""
        low, high = span(looks)
        return np.clip(states + actions * looks["speed"][:, None], low[:, None], high[:, None])

    def gap(self, states: Array, goals: Array) -> Array:
        """The straight distance."""
        return np.sqrt(np.square(states - goals).sum(1))

    def distance(self, states: Array, goals: Array, looks: Looks) -> Array:
        """The straight distance."""
        return self.gap(states, goals)

    def oracle(self, states: Array, goals: Array, looks: Looks) -> Array:
        """Straight on."""
        return reach(goals - states, looks["speed"])

    def draw(self, canvas: Array, states: Array, looks: Looks) -> None:
        """See :class:`Task`."""
        window = Window(canvas, states[:, :2], self.reach)
        window.paint((window.disc(looks["agent_size"]), looks["agent_color"]))

    def mark(self, canvas: Array, goals: Array, looks: Looks) -> None:
        """A ring of the agent's size."""
        window = Window(canvas, goals[:, :2], self.reach)
        window.paint((window.ring(looks["agent_size"]), looks["goal_color"]))
