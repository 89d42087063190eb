"""The arithmetic of poses: rotations about fixed axes, in any number of rows at once."""

from __future__ import annotations

import math

import torch

from worldflux_jepa.vjepa2_ac import pose


def poses(*lead, seed=0):
    generator = torch.Generator().manual_seed(seed)
    angles = (torch.rand(*lead, 3, generator=generator, dtype=torch.float64) - 0.5) * 2
    place = torch.randn(*lead, 3, generator=generator, dtype=torch.float64)
    return torch.cat([place, angles, torch.rand(*lead, 1, generator=generator, dtype=torch.float64)], -1)


def test_turns_about_one_axis():
    quarter = math.pi / 2
    x, y, z = torch.eye(3, dtype=torch.float64)
    turned = pose.matrix_of(torch.tensor([[quarter, 0, 0], [0, quarter, 0], [0, 0, quarter]], dtype=torch.float64))
    assert torch.allclose(turned[0] @ y, z) and torch.allclose(turned[1] @ z, x) and torch.allclose(turned[2] @ x, y)


def test_the_axes_stay_where_they_are():
    angles = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64)
    alone = [pose.matrix_of(torch.where(torch.arange(3) == axis, angles, 0.0)) for axis in range(3)]
    assert torch.allclose(pose.matrix_of(angles), alone[2] @ alone[1] @ alone[0])


def test_angles_come_back():
    angles = poses(50)[:, 3:6]
    assert torch.allclose(pose.angles_of(pose.matrix_of(angles)), angles)


def test_where_two_axes_are_one_the_third_angle_is_zero_and_the_turn_the_same():
    for second in (math.pi / 2, -math.pi / 2):
        matrix = pose.matrix_of(torch.tensor([0.4, second, 0.9], dtype=torch.float64))
        angles = pose.angles_of(matrix)
        assert float(angles[2]) == 0
        assert torch.allclose(pose.matrix_of(angles), matrix, atol=1e-7)


def test_actions_lead_from_each_pose_to_the_next():
    way = poses(4, 6)
    step = pose.actions_between(way)
    assert step.shape == (4, 5, 7)
    assert torch.allclose(pose.moved(way[:, :-1], step), way[:, 1:])


def test_the_grip_stays_within_its_bounds():
    here = torch.zeros(2, 7)
    done = torch.tensor([[0.0] * 6 + [2.0], [0.0] * 6 + [-2.0]])
    assert pose.moved(here, done)[:, 6].tolist() == [1.0, 0.0]


def test_a_camera_sees_itself_at_the_middle():
    here = poses(3)
    seen = pose.seen_from(here[:, :6], here)
    assert torch.allclose(seen[:, :6], torch.zeros(3, 6, dtype=torch.float64), atol=1e-12)
    assert torch.equal(seen[:, 6], here[:, 6])


def test_dtypes_are_kept():
    here = poses(2).float()
    assert pose.moved(here, here).dtype is torch.float32
