"""Push a block: a disc moves a square block to a pose.

Pushed in the middle of a side, within a dead zone, the block slides; pushed beside it, it turns, too. Its middle stays
in a circle, so that the agent can always get behind it and no state is lost.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .block_oracle import BlockFrame, push_towards
from .drawing import Window
from .draws import Draws
from .factors import COMMON, Looks, colour, number
from .task import Array, Task, somewhere, span, within
from .ways import EDGE

SUBSTEPS = 4
TURN = np.pi / 9  # how far the angle may be off at the goal


class PushBlock(Task):
    """A block and a pose for it; 64 x 64 pixels by default.

    The thresholds are those of Push-T: 20 of 512 pixels and 20 degrees. Where the agent is at the goal counts nowhere.
    """

    name = "push-block"
    state_names = ("agent_x", "agent_y", "block_x", "block_y", "block_angle")
    parts: ClassVar[dict[str, int]] = {"agent": 2, "block": 2, "block_heading": 2}
    factors = (
        *COMMON,
        colour("block_color", (80, 140, 235), 120, 220, "of the block"),
        number("agent_size", 0.03, 0.02, 0.035, "radius of the agent"),
        number("block_size", 0.08, 0.06, 0.09, "half a side of the block"),
        number("border", 0.04, 0.02, 0.06, "thickness of the border"),
        number("speed", 0.04, 0.02, 0.05, "of an action of 1, a step"),
        number("turning", 1.0, 0.5, 1.5, "how far a push beside the middle turns the block"),
    )
    reach = 0.09 * 2**0.5
    size, limit, radius = 64, 200, 20 / 512

    def place(self, draws: Draws, name: str, count: int | Array, looks: Looks) -> Array:
        """See :class:`Task`."""
        share, angle, heading = draws.uniform(f"{name} block", count, 3).T
        far, angle = BlockFrame.room(looks) * np.sqrt(share), 2 * np.pi * angle
        block = 0.5 + far[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
        return np.column_stack([somewhere(draws, name, count, looks), block, wrapped(2 * np.pi * heading)])

    def valid(self, states: Array, looks: Looks) -> Array:
        """See :class:`Task`."""
        in_circle = np.sqrt(np.square(states[:, 2:4] - 0.5).sum(1)) <= BlockFrame.room(looks) + EDGE
        local, reach = BlockFrame(states).inwards(states[:, :2]), BlockFrame.side(looks)
        return within(states[:, :2], looks) & in_circle & (np.abs(local).max(1) >= reach - EDGE)

    def move(self, states: Array, actions: Array, looks: Looks) -> Array:
        """In four parts, so that nobody jumps over a corner."""
        low, high = span(looks)
        states = states.copy()
        for _ in range(SUBSTEPS):
            step = actions * (looks["speed"] / SUBSTEPS)[:, None]
            states[:, :2] = np.clip(states[:, :2] + step, low[:, None], high[:, None])
            _push(states, looks)
        return states

    def gap(self, states: Array, goals: Array) -> Array:
        """How far the block is off; where its angle is off by more than it may be, at least twice the radius."""
        off = np.sqrt(np.square(states[:, 2:4] - goals[:, 2:4]).sum(1))
        turned = np.abs(wrapped(states[:, 4] - goals[:, 4])) >= TURN
        return np.where(turned, np.maximum(off, 2 * self.radius), off)

    def distance(self, states: Array, goals: Array, looks: Looks) -> Array:
        """How far the block's middle has to go, and how far the middle of a side has to turn around it."""
        off = np.sqrt(np.square(states[:, 2:4] - goals[:, 2:4]).sum(1))
        return off + looks["block_size"] * np.abs(wrapped(states[:, 4] - goals[:, 4]))

    def oracle(self, states: Array, goals: Array, looks: Looks) -> Array:
        """Turn the block, then push it along one of its axes and along the other."""
        return push_towards(states, goals, looks, turned=wrapped(goals[:, 4] - states[:, 4]))

    def told(self, states: Array) -> dict[str, Array]:
        """The angle is told by its cosine and sine, which do not jump."""
        angle = np.ascontiguousarray(states[:, 4])
        heading = np.column_stack([np.cos(angle), np.sin(angle)])
        parts = {"agent": states[:, :2], "block": states[:, 2:4], "block_heading": heading}
        return {name: part.astype(np.float32) for name, part in parts.items()}

    def state_of(self, told: dict[str, Array]) -> Array:
        """See :class:`Task`."""
        cos, sin = np.asarray(told["block_heading"], np.float64).T
        places = [np.asarray(told[name], np.float64) for name in ("agent", "block")]
        return np.column_stack([*places, np.arctan2(sin, cos)])

    def draw(self, canvas: Array, states: Array, looks: Looks) -> None:
        """The block, one half of it lighter, and the agent."""
        lighter = np.minimum(looks["block_color"] + 70, 255)
        self._draw_block(canvas, states, looks, (looks["block_color"], lighter))
        window = Window(canvas, states[:, :2], 0.035)
        window.paint((window.disc(looks["agent_size"]), looks["agent_color"]))

    def mark(self, canvas: Array, goals: Array, looks: Looks) -> None:
        """The block's place, one half of it in the goal's colour, the other darker."""
        self._draw_block(canvas, goals, looks, (looks["goal_color"] / 2, looks["goal_color"]))

    def _draw_block(self, canvas: Array, states: Array, looks: Looks, colours: tuple[Array, Array]) -> None:
        window, half = Window(canvas, states[:, 2:4], self.reach), np.column_stack([looks["block_size"]] * 2)
        covers = [window.turned_box(states[:, 4], low, half) for low in (-half, half * [0.2, -1])]
        window.paint(*zip(covers, colours, strict=True))


def wrapped(angle: Array) -> Array:
    """Return angles between -pi and pi."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _push(states: Array, looks: Looks) -> None:
    """Move blocks out of the agents' way, and agents out of the blocks' where those cannot move."""
    frame, reach = BlockFrame(states), BlockFrame.side(looks)
    axis, side, depth, beside = _contact(frame.inwards(states[:, :2]), reach)
    if not depth.any():
        return
    normal = frame.outwards(_along(axis, side))  # from the block to the agent
    block = _confined(states[:, 2:4] - normal * depth[:, None], BlockFrame.room(looks))
    states[:, 2:4] = np.where((depth > 0)[:, None], block, states[:, 2:4])
    states[:, 4] = wrapped(states[:, 4] + BlockFrame.turn(axis, side, depth, beside, looks))
    frame = BlockFrame(states)
    axis, side, depth, _ = _contact(frame.inwards(states[:, :2]), reach)  # what is left where it could not move
    states[:, :2] += frame.outwards(_along(axis, side)) * depth[:, None]


def _contact(local: Array, reach: Array) -> tuple[Array, Array, Array, Array]:
    """Return the axis and side of the nearest face, how deep the agent is in it (0: not at all), and where along it."""
    axis = np.abs(local).argmax(1)
    rows = np.arange(len(local))
    across, beside = local[rows, axis], local[rows, 1 - axis]
    return axis, np.where(across < 0, -1.0, 1.0), np.maximum(reach - np.abs(across), 0), beside


def _along(axis: Array, side: Array) -> Array:
    return np.eye(2)[axis] * side[:, None]


def _confined(places: Array, room: Array) -> Array:
    apart = places - 0.5
    far = np.sqrt(np.square(apart).sum(1))
    return 0.5 + apart * np.minimum(1, room / np.maximum(far, 1e-12))[:, None]
