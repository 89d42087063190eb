"""Ways among boxes: how far a straight one leads, what is done at a wall, and the shortest one there is.

Places are ``[..., 2]``; boxes ``[..., K, 4]`` (x and y from, x and y to) are solid but for their edges, along which one
may go.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray
EDGE = 1e-6  # an edge is this thick: who stands on it is not inside, whatever a float32 makes of the place


def free_share(start: Array, end: Array, boxes: Array) -> tuple[Array, Array]:
    """Return which share ``[...]`` of straight ways is free (1: all), and whether x (0) or y (1) is what is stopped."""
    shares, axes = _entered(start, end, boxes)
    first = shares.argmin(-1)[..., None]
    return np.take_along_axis(shares, first, -1)[..., 0], np.take_along_axis(axes, first, -1)[..., 0]


def is_free(start: Array, end: Array, boxes: Array) -> Array:
    """Return whether straight ways are free."""
    return np.asarray(free_share(start, end, boxes)[0] >= 1)


def slide(start: Array, step: Array, boxes: Array, low: Array, high: Array) -> Array:
    """Return where steps ``[N, 2]`` lead: straight up to a wall, then along it, between ``low`` and ``high [N]``."""
    end = np.clip(start + step, low[:, None], high[:, None])
    for _ in range(2):  # a wall, and one that ends the way along it
        shares, axes = _entered(start, end, boxes)
        which = shares.argmin(1)
        rows = np.arange(len(start))
        share, axis = shares[rows, which], axes[rows, which]
        hit = share < 1
        if not hit.any():
            return end
        met = start + share[:, None] * (end - start)
        faces = boxes[rows, which]
        near = np.where(end[rows, axis] > start[rows, axis], faces[rows, axis], faces[rows, axis + 2])
        met[rows, axis] = near
        along = end.copy()
        along[rows, axis] = near
        start, end = np.where(hit[:, None], met, start), np.where(hit[:, None], along, end)
    return end


def shortest(start: Array, end: Array, boxes: Array, corners: Array) -> tuple[Array, Array]:
    """Return the length ``[N]`` of the shortest way, and the place ``[N, 2]`` where it first turns, or ends.

    ``corners [N, C, 2]`` are the places where it may turn; at most two of them are needed.
    """
    length, turn = _length(start, end, boxes), end.copy()
    blocked = np.flatnonzero(np.isinf(length))
    if len(blocked):
        length[blocked], turn[blocked] = _around(start[blocked], end[blocked], boxes[blocked], corners[blocked])
    return length, turn


def _around(start: Array, end: Array, boxes: Array, corners: Array) -> tuple[Array, Array]:
    num, count = corners.shape[:2]
    first = _length(start[:, None], corners, boxes[:, None])  # [N, C]
    last = _length(corners, end[:, None], boxes[:, None])
    between = _length(corners[:, :, None], corners[:, None], boxes[:, None, None])  # [N, C, C]; 0 where it is the same
    lengths = (first[:, :, None] + between + last[:, None]).reshape(num, -1)
    best, rows, turn = lengths.argmin(1), np.arange(num), end
    for corner in (best % count, best // count):  # the second, then the first, unless one stands there
        at = corners[rows, corner]
        turn = np.where((np.abs(at - start).max(1) > EDGE)[:, None], at, turn)
    return lengths[rows, best], turn


def _length(start: Array, end: Array, boxes: Array) -> Array:
    apart = np.sqrt(np.square(end - start).sum(-1))
    return np.where(is_free(start, end, boxes), apart, np.inf)


def _entered(start: Array, end: Array, boxes: Array) -> tuple[Array, Array]:
    """Return for each box ``[..., K]`` the share of the way at which it is entered (1: never), and the face's axis."""
    start, end = np.broadcast_arrays(start, end)
    here, way = start[..., None, :], (end - start)[..., None, :]
    low, high = boxes[..., :2] + EDGE, boxes[..., 2:] - EDGE
    stands = way == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = (low - here) / way, (high - here) / way
    within = (low < here) & (here < high)
    enter = np.where(stands, np.where(within, -np.inf, np.inf), np.minimum(one, other))
    leave = np.where(stands, np.where(within, np.inf, -np.inf), np.maximum(one, other))
    entered, left = enter.max(-1), leave.min(-1)
    hit = (entered < left) & (left > 0) & (entered < 1)
    return np.where(hit, np.maximum(entered, 0), 1.0), enter.argmax(-1)
