"""How a block is pushed to a pose: which side to stand at, the way there, and how far to push."""

from __future__ import annotations

import numpy as np

from .drawing import turn
from .factors import Looks
from .task import Array, reach
from .ways import shortest

GAP = 0.01  # between the agent and the block on the way around it
DEAD = 0.25  # share of half a side: a push so near to the middle does not turn
BESIDE = 0.8  # share of half a side, from the middle: where to push for turning
TURNED, PLACED = 0.08, 0.008  # what the oracle leaves undone, well below the thresholds


class BlockFrame:
    """Places as the block sees them: its middle is the origin, its sides are along the axes."""

    def __init__(self, states: Array) -> None:
        self._middle = states[:, 2:4].copy()
        self._cos, self._sin = turn(states[:, 4])

    def inwards(self, places: Array) -> Array:
        """Return places ``[N, 2]`` in the block's frame."""
        return self.vectors(places - self._middle)

    def vectors(self, apart: Array) -> Array:
        """Return vectors ``[N, 2]`` in the block's frame."""
        x, y = apart.T
        return np.column_stack([self._cos * x + self._sin * y, self._cos * y - self._sin * x])

    def outwards(self, local: Array) -> Array:
        """Return vectors of the block's frame ``[N, 2]`` as the picture has them."""
        u, v = local.T
        return np.column_stack([self._cos * u - self._sin * v, self._sin * u + self._cos * v])

    @staticmethod
    def side(looks: Looks) -> Array:
        """Return how near to the block's middle the agent's may be along an axis, ``[N]``."""
        return looks["block_size"] + looks["agent_size"]

    @staticmethod
    def room(looks: Looks) -> Array:
        """Return the radius of the circle in which the block's middle stays, ``[N]``."""
        around = np.sqrt(2) * (BlockFrame.side(looks) + GAP)
        return 0.5 - looks["border"] - looks["agent_size"] - around

    @staticmethod
    def turn(axis: Array, side: Array, depth: Array, beside: Array, looks: Looks) -> Array:
        """Return the angle by which pushes of a ``depth`` turn the block, ``beside`` the middle of a side."""
        half = looks["block_size"]
        arm = np.sign(beside) * np.maximum(np.minimum(np.abs(beside), half) - DEAD * half, 0)
        return np.where(axis == 0, 1.0, -1.0) * side * arm * depth * looks["turning"] / half**2


def push_towards(states: Array, goals: Array, looks: Looks, *, turned: Array) -> Array:
    """Return the oracle's actions ``[N, 2]``; ``turned [N]`` is the angle that is left to turn."""
    frame = BlockFrame(states)
    local, left = frame.inwards(states[:, :2]), frame.vectors(goals[:, 2:4] - states[:, 2:4])
    turns = np.abs(turned) > TURNED
    axis, side, beside, depth = _side_to_push(states, local, left, looks, frame)
    for_turning = _side_to_turn(local, turned, looks)
    axis, side, beside, depth = (
        np.where(turns, one, other) for one, other in zip(for_turning, (axis, side, beside, depth), strict=True)
    )
    aim = _aim(local, axis, side, beside, depth, looks)
    done = ~turns & (np.abs(left) <= PLACED).all(1)
    return np.where(done[:, None], 0.0, reach(frame.outwards(aim), looks["speed"]))


def _side_to_push(
    states: Array, local: Array, left: Array, looks: Looks, frame: BlockFrame
) -> tuple[Array, Array, Array, Array]:
    """Return the axis, the side, the place along it and the length of the next straight push."""
    rows = np.arange(len(left))
    # Along one axis first, then the other: of the two orders one never leaves the circle (Thales).
    corners = [frame.outwards(left * keep) + states[:, 2:4] - 0.5 for keep in ([1, 0], [0, 1])]
    over = np.stack([np.sqrt(np.square(corner).sum(1)) for corner in corners], 1) > BlockFrame.room(looks)[:, None]
    ready = np.abs(local / BlockFrame.side(looks)[:, None] + np.sign(left)) < 0.2  # behind the block already
    worth = np.abs(left) + 1.0 * ready[:, :] - 4.0 * over - 8.0 * (np.abs(left) <= PLACED)
    axis = worth.argmax(1)
    return axis, -np.sign(left[rows, axis]), np.zeros(len(left)), np.abs(left[rows, axis])


def _side_to_turn(local: Array, turned: Array, looks: Looks) -> tuple[Array, Array, Array, Array]:
    """Return the same for a push that turns, at the nearest of the four sides."""
    half, where = looks["block_size"], BlockFrame.side(looks)
    options = []
    for axis in (0, 1):
        for side in (-1.0, 1.0):
            beside = np.sign(turned) * (1 if axis == 0 else -1) * side * BESIDE * half
            place = np.stack([side * where, beside] if axis == 0 else [beside, side * where], 1)
            options.append((axis, side, beside, np.square(local - place).sum(1)))
    nearest = np.stack([far for *_, far in options], 1).argmin(1)
    axis, side = (np.array([option[i] for option in options])[nearest] for i in (0, 1))
    beside = np.stack([option[2] for option in options], 1)[np.arange(len(local)), nearest]
    depth = np.abs(turned) * half / ((BESIDE - DEAD) * looks["turning"])
    return axis, side, beside, depth


def _aim(local: Array, axis: Array, side: Array, beside: Array, depth: Array, looks: Looks) -> Array:
    """Return where to go, from the agent, in the block's frame: around the block to its side, or on into it."""
    rows, where = np.arange(len(local)), BlockFrame.side(looks)
    place = np.empty_like(local)
    place[rows, axis], place[rows, 1 - axis] = side * (where + GAP / 2), beside
    off = np.abs(local[rows, 1 - axis] - beside)
    at_side = (local[rows, axis] * side >= where - 1e-3) & (local[rows, axis] * side < where + 2 * GAP)
    pushes = at_side & (off < DEAD / 2 * looks["block_size"])
    square = np.column_stack([-where, -where, where, where])[:, None]
    out = (where + GAP)[:, None, None] * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    around = shortest(local, place, square, out)[1] - local
    into = np.empty_like(local)
    into[rows, axis] = side * (where - depth) - local[rows, axis]
    into[rows, 1 - axis] = beside - local[rows, 1 - axis]
    return np.where(pushes[:, None], into, around)
