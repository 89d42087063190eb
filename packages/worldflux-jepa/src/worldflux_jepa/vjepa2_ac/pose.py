"""Poses of an arm: place (x, y, z), Euler angles about the fixed axes x, y, z in this order, and how far it grips.

All functions take any leading axes, compute in float64 and return the dtype they were given.
"""

from __future__ import annotations

import torch
from torch import Tensor

SIZE = 7  # numbers of a pose, and of an action
LOCKED = 1 - 1e-12  # sine of the second angle above which the first and the third turn about one axis


def matrix_of(angles: Tensor) -> Tensor:
    """Rotations ``[..., 3, 3]`` of Euler angles ``[..., 3]``: about x, then y, then z, all of them fixed."""
    (cx, cy, cz), (sx, sy, sz) = (part.unbind(-1) for part in (angles.cos(), angles.sin()))
    rows = (
        (cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        (sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        (-sy, cy * sx, cy * cx),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def angles_of(matrix: Tensor) -> Tensor:
    """Euler angles ``[..., 3]`` of rotations ``[..., 3, 3]``, the second within ±π/2; at its ends the third is 0."""
    sine = -matrix[..., 2, 0]
    locked = sine.abs() > LOCKED
    first = torch.atan2(matrix[..., 2, 1], matrix[..., 2, 2])
    second = torch.atan2(sine, torch.hypot(matrix[..., 0, 0], matrix[..., 1, 0]))
    third = torch.atan2(matrix[..., 1, 0], matrix[..., 0, 0])
    alone = torch.atan2(-matrix[..., 1, 2], matrix[..., 1, 1])
    return torch.stack([torch.where(locked, alone, first), second, torch.where(locked, 0.0, third)], -1)


def moved(pose: Tensor, action: Tensor) -> Tensor:
    """The pose ``[..., 7]`` after an action ``[..., 7]``: a step, a turn on top of the pose's own, a change of grip.

    How far it grips stays within 0 and 1.
    """
    before, change = pose.double(), action.double()
    place = before[..., :3] + change[..., :3]
    turned = angles_of(matrix_of(change[..., 3:6]) @ matrix_of(before[..., 3:6]))
    grip = (before[..., 6:] + change[..., 6:]).clamp(0, 1)
    return torch.cat([place, turned, grip], -1).to(pose.dtype)


def actions_between(poses: Tensor) -> Tensor:
    """The actions ``[..., T - 1, 7]`` that lead from each of the poses ``[..., T, 7]`` to the next."""
    exact = poses.double()
    change = exact[..., 1:, :] - exact[..., :-1, :]
    turns = matrix_of(exact[..., 3:6])
    turned = angles_of(turns[..., 1:, :, :] @ turns[..., :-1, :, :].mT)
    return torch.cat([change[..., :3], turned, change[..., 6:]], -1).to(poses.dtype)


def seen_from(camera: Tensor, pose: Tensor) -> Tensor:
    """Poses ``[..., 7]`` as a camera at ``[..., 6]`` (place and angles) sees them."""
    at, exact = camera.double(), pose.double()
    back = matrix_of(at[..., 3:6]).mT
    place = (back @ (exact[..., :3] - at[..., :3]).unsqueeze(-1)).squeeze(-1)
    return torch.cat([place, angles_of(back @ matrix_of(exact[..., 3:6])), exact[..., 6:]], -1).to(pose.dtype)
