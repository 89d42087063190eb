"""An imagined (or observed) sequence of states."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .errors import StateError
from .spec import SequenceLayout, StateSpec
from .state import State, Tensors, register_pytree


@dataclass
class Trajectory(Tensors):
    """``H + 1`` states and the ``H`` actions between them, time-major.

    ``actions [H, B, A]``; ``rewards [H, B]`` and ``continues [H, B]`` (probabilities) belong to arriving at state
    ``t + 1``; ``values [H + 1, B]`` belong to the states.
    """

    states: list[State]
    actions: Tensor
    rewards: Tensor | None = None
    values: Tensor | None = None
    continues: Tensor | None = None
    state_spec: StateSpec = field(default_factory=StateSpec)
    sequence_layout: SequenceLayout | None = None

    def __post_init__(self) -> None:
        horizon, steps = len(self.states) - 1, self.actions.shape[0]
        if horizon != steps:
            raise StateError(
                f"Trajectory state/action mismatch: {horizon + 1} states need {horizon} actions, got {steps}"
            )
        sizes = {state.batch_size for state in self.states}
        if len(sizes) > 1 or (steps and self.actions.shape[1] not in sizes):
            raise StateError(f"Inconsistent batch size: states {sorted(sizes)}, actions {tuple(self.actions.shape)}")
        for name, value, length in (
            ("Rewards", self.rewards, horizon),
            ("Continues", self.continues, horizon),
            ("Values", self.values, horizon + 1),
        ):
            if value is not None and value.shape[0] != length:
                raise StateError(f"{name} length must be {length}, got {value.shape[0]}")

    def __len__(self) -> int:
        return len(self.states)

    @property
    def horizon(self) -> int:
        """Number of actions."""
        return len(self.states) - 1

    @property
    def batch_size(self) -> int:
        """Number of parallel sequences."""
        return self.states[0].batch_size

    def to_tensor(self, key: str) -> Tensor:
        """Return one latent stacked over time, ``[H + 1, B, ...]``. Raises StateError if no state has it."""
        if key not in self.states[0]:
            raise StateError(f"states have {sorted(self.states[0].tensors)}, not {key!r}")
        return torch.stack([state[key] for state in self.states])


register_pytree(Trajectory, ("states", "actions", "rewards", "values", "continues"), ("state_spec", "sequence_layout"))
