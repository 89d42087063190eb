"""Acting in an environment with explicit state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor

Carry = dict[str, Tensor]


@runtime_checkable
class Policy(Protocol):
    """Maps what was observed, and a carry, to an action and the next carry; holds no state of its own.

    ``latent_spec`` maps the names of latents worth keeping in a replay to ``(shape, dtype name)``.
    """

    @property
    def latent_spec(self) -> Mapping[str, tuple[tuple[int, ...], str]]: ...

    def initial(self, batch_size: int) -> Carry:
        """Return the carry before the first observation of ``batch_size`` environments."""
        ...

    def __call__(
        self, obs: dict[str, Tensor], carry: Carry, *, is_first: Tensor, explore: bool
    ) -> tuple[Tensor, Carry]:
        """Return actions ``[N, A]`` (flat: one-hot and continuous parts) and the next carry.

        ``obs`` holds the modalities ``[N, ...]`` as stored; ``is_first`` ``[N]`` marks fresh episodes, whose part
        of the carry is ignored; ``explore`` samples where the family distinguishes that from its best action.
        """
        ...

    def latents(self, carry: Carry) -> dict[str, Tensor]:
        """Return the latents of a carry, as ``latent_spec`` describes them."""
        ...
