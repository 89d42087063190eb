"""Whether the states, actions and rewards of a trajectory belong together."""

from __future__ import annotations

from worldflux.core.errors import StateError
from worldflux.core.trajectory import Trajectory


def check(trajectory: Trajectory) -> None:
    """Raise StateError if they have other lengths or batch sizes."""
    horizon, steps = len(trajectory.states) - 1, trajectory.actions.shape[0]
    if horizon != steps:
        raise StateError(f"Trajectory state/action mismatch: {horizon + 1} states need {horizon} actions, got {steps}")
    sizes = {state.batch_size for state in trajectory.states}
    if len(sizes) > 1 or (steps and trajectory.actions.shape[1] not in sizes):
        raise StateError(f"Inconsistent batch size: states {sorted(sizes)}, actions {tuple(trajectory.actions.shape)}")
    for name, value, length in (
        ("Rewards", trajectory.rewards, horizon),
        ("Continues", trajectory.continues, horizon),
        ("Values", trajectory.values, horizon + 1),
    ):
        if value is not None and value.shape[0] != length:
            raise StateError(f"{name} length must be {length}, got {value.shape[0]}")
