"""A goal that is a named state: what a probe reads out of imagined latents is compared with what is wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from worldflux.core.errors import ConfigurationError, ShapeMismatchError
from worldflux.core.model import WorldModel
from worldflux.core.state import State
from worldflux.core.trajectory import Trajectory

from .over import Over, added_up, check_over


@dataclass(frozen=True)
class StateGoal:
    """Nearness of probed states to a ``wanted`` one: minus the Euclidean distance, in the state's own units.

    ``wanted [S]``, or ``[E, S]`` with one for each environment; ``probe`` reads ``[B, S]`` out of states, as
    ``worldflux.evals.fit_probe`` returns it. ``over`` as in ``GoalObjective``.
    """

    wanted: Tensor
    probe: Callable[[State], Tensor]
    over: Over = "last"

    def __post_init__(self) -> None:
        if not isinstance(self.wanted, Tensor) or self.wanted.ndim not in (1, 2):
            raise ConfigurationError(f"the wanted state is {self.wanted!r}, expected a Tensor [S], or [E, S]")
        check_over(self.over)

    def check(self, model: WorldModel) -> None:
        """Accept any model: the probe was fitted on it."""

    def check_rows(self, num_envs: int) -> None:
        """Raise ShapeMismatchError unless one state is wanted, or one for each environment."""
        if self.wanted.ndim == 2 and self.wanted.shape[0] not in (1, num_envs):
            raise ShapeMismatchError(
                "rows of the wanted state: one, or one per environment",
                expected=f"1 or {num_envs}",
                got=self.wanted.shape[0],
            )

    def noise(
        self, model: WorldModel, batch_size: int, *, generator: torch.Generator, device: torch.device
    ) -> dict[str, Tensor]:
        """Draw nothing."""
        return {}

    def score(self, model: WorldModel, trajectory: Trajectory, noise: dict[str, Tensor]) -> Tensor:
        """Minus the distance ``[B]``."""
        states = trajectory.states[-1 if self.over == "last" else 1 :]
        return -added_up([self.energy_of(state) for state in states], self.over)

    def energy_of(self, state: State) -> Tensor:
        """The distance ``[B]`` of states of B rows, a multiple of the wanted states'."""
        read = self.probe(state)
        wanted = self.wanted.reshape(-1, self.wanted.shape[-1]).to(read)
        if read.shape[-1:] != wanted.shape[-1:]:
            raise ShapeMismatchError("the wanted state", expected=(read.shape[-1],), got=tuple(self.wanted.shape))
        return torch.linalg.vector_norm(read - wanted.repeat_interleave(len(read) // len(wanted), 0), dim=-1)
