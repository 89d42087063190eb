"""What a model may offer planners beyond the contract. Each offer is optional and found by its methods.

Every draw a model needs is made by a ``*_noise`` method and handed back to the method that uses it, so that a plan is
a function of state and noise. Rows are environment-major: row ``e * N + n`` is candidate ``n`` of environment ``e``.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from worldflux.core.state import State


@runtime_checkable
class OffersValue(Protocol):
    """A model that knows what a state is worth: the return, in reward's units, of acting well from there on."""

    def value_noise(self, batch_size: int, *, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Draw what one ``terminal_value`` call on ``batch_size`` rows needs (nothing: an empty dict)."""
        ...

    def terminal_value(self, state: State, noise: dict[str, Tensor]) -> Tensor:
        """Return the value ``[B]`` of each state."""
        ...


@runtime_checkable
class OffersProposals(Protocol):
    """A model with a policy of its own that can propose plans."""

    def proposal_noise(
        self, horizon: int, batch_size: int, *, generator: torch.Generator, device: torch.device
    ) -> dict[str, Tensor]:
        """Draw what one ``propose`` call on ``batch_size`` rows needs."""
        ...

    def propose(self, state: State, horizon: int, noise: dict[str, Tensor]) -> Tensor:
        """Return plans ``[H, B, A]`` made by following the policy through the imagined dynamics."""
        ...


@runtime_checkable
class OffersActionMask(Protocol):
    """A model that serves several tasks of which some use only part of the action vector."""

    def action_mask(self, state: State) -> Tensor:
        """Return 1 where a task uses an entry of the action vector and 0 where not, ``[B, A]``."""
        ...


@runtime_checkable
class OffersActions(Protocol):
    """A model that has learned which actions lead from one state to another."""

    def actions_to_goal(self, state: State, goal: State, horizon: int) -> Tensor:
        """Return plans ``[H, B, A]`` from states of B rows towards goals of as many.

        Raises CapabilityError if this model has not learned it, ConfigurationError for a longer horizon than it has.
        """
        ...
