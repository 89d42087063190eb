"""Two rooms: a point, a wall, and a door in it.

For walls the agent is the square around it, so that ways among them are exact.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .drawing import Window, box, fill
from .draws import Draws
from .factors import COMMON, Looks, number
from .task import Array, Task, reach, somewhere, span, within
from .ways import EDGE, shortest, slide


class TwoRoom(Task):
    """A point that must go through a door to be in the other room; 64 x 64 pixels by default.

    Source: the wall environments of DINO-WM and PLDM, 65 pixels a side: 2 pixels a step, a border of 5, a door of 8.
    """

    name = "two-room"
    state_names = ("agent_x", "agent_y", "wall", "door")
    parts: ClassVar[dict[str, int]] = {"agent": 2, "wall": 1, "door": 1}
    factors = (
        *COMMON,
        number("agent_size", 0.03, 0.02, 0.045, "radius of the agent"),
        number("border", 5 / 65, 0.03, 0.09, "thickness of the border"),
        number("speed", 2 / 65, 0.015, 0.05, "of an action of 1, a step"),
        number("wall", 0.5, 0.35, 0.65, "where the wall's middle is, from the left"),
        number("wall_thickness", 3 / 65, 0.03, 0.1, "of the wall"),
        number("door", 0.5, 0.25, 0.75, "where the door's middle is, from the top"),
        number("door_width", 9 / 65, 0.11, 0.25, "of the door"),
    )
    goal_kinds = ("place", "offset", "other_room")
    reach = max(one.high for one in factors if one.name == "agent_size")
    size, limit, radius = 64, 100, 4.5 / 65

    def place(self, draws: Draws, name: str, count: int | Array, looks: Looks) -> Array:
        """See :class:`Task`."""
        return np.column_stack([somewhere(draws, name, count, looks), looks["wall"], looks["door"]])

    def valid(self, states: Array, looks: Looks) -> Array:
        """See :class:`Task`."""
        walls, agent = _walls(states, looks), states[:, None, :2]
        inside = np.all((agent > walls[..., :2] + EDGE) & (agent < walls[..., 2:] - EDGE), axis=2)  # [N, 2]
        layout = [one for one in self.factors if one.name in ("wall", "door")]
        low, high = np.array([one.low for one in layout]), np.array([one.high for one in layout])
        laid = np.all((states[:, 2:] >= low - EDGE) & (states[:, 2:] <= high + EDGE), axis=1)
        return np.asarray(within(states[:, :2], looks) & ~inside.any(1) & laid)

    def adopt(self, looks: Looks, states: Array) -> Looks:
        """Where wall and door are."""
        return looks | {"wall": states[:, 2].copy(), "door": states[:, 3].copy()}

    def same_world(self, states: Array, goals: Array) -> Array:
        """See :class:`Task`."""
        return np.isclose(states[:, 2:], goals[:, 2:], rtol=0, atol=EDGE).all(1)

    def allowed(self, kind: str, states: Array, goals: Array) -> Array:
        """See :class:`Task`."""
        if kind != "other_room":
            return super().allowed(kind, states, goals)
        return (states[:, 0] < states[:, 2]) != (goals[:, 0] < goals[:, 2])

    def move(self, states: Array, actions: Array, looks: Looks) -> Array:
        """Straight up to a wall, then along it."""
        step = actions * looks["speed"][:, None]
        agent = slide(states[:, :2], step, _walls(states, looks), *span(looks))
        return np.concatenate([agent, states[:, 2:]], 1)

    def gap(self, states: Array, goals: Array) -> Array:
        """The straight distance."""
        return np.sqrt(np.square(states[:, :2] - goals[:, :2]).sum(1))

    def distance(self, states: Array, goals: Array, looks: Looks) -> Array:
        """The length of the shortest way, through the door where it must be."""
        return self._way(states, goals, looks)[0]

    def oracle(self, states: Array, goals: Array, looks: Looks) -> Array:
        """Along the shortest way, as fast as it goes."""
        return reach(self._way(states, goals, looks)[1] - states[:, :2], looks["speed"])

    def _way(self, states: Array, goals: Array, looks: Looks) -> tuple[Array, Array]:
        walls = _walls(states, looks)
        left, right, top, bottom = walls[:, 0, 0], walls[:, 0, 2], walls[:, 0, 3], walls[:, 1, 1]
        corners = np.stack([[left, top], [right, top], [left, bottom], [right, bottom]]).transpose(2, 0, 1)
        return shortest(states[:, :2], goals[:, :2], walls, corners)

    def backdrop(self, states: Array, looks: Looks, size: int) -> Array:
        """The floor, the border, and the wall on both sides of its door."""
        canvas = super().backdrop(states, looks, size)
        half, gap = looks["wall_thickness"] / 2, looks["door_width"] / 2
        wall, door, none = states[:, 2], states[:, 3], np.zeros(len(states))
        for top, bottom in ((none, door - gap), (door + gap, none + 1)):
            low, high = np.column_stack([wall - half, top]), np.column_stack([wall + half, bottom])
            fill(canvas, box(low, high, size), looks["wall_color"])
        return canvas

    def draw(self, canvas: Array, states: Array, looks: Looks) -> None:
        """See :class:`Task`."""
        window = Window(canvas, states[:, :2], self.reach)
        window.paint((window.disc(looks["agent_size"]), looks["agent_color"]))

    def mark(self, canvas: Array, goals: Array, looks: Looks) -> None:
        """A ring of the agent's size."""
        window = Window(canvas, goals[:, :2], self.reach)
        window.paint((window.ring(looks["agent_size"]), looks["goal_color"]))


def _walls(states: Array, looks: Looks) -> Array:
    """Return what the agent's middle may not enter, above and below the door: ``[N, 2, 4]``."""
    half = looks["wall_thickness"] / 2 + looks["agent_size"]
    gap = looks["door_width"] / 2 - looks["agent_size"]
    wall, door, far = states[:, 2], states[:, 3], np.full(len(states), 2.0)
    above = np.column_stack([wall - half, -far, wall + half, door - gap])
    below = np.column_stack([wall - half, door + gap, wall + half, far])
    return np.stack([above, below], 1)
