"""Who decides every k-th step, in environments that take one step at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from worldflux.core.policy import Carry, Policy


@dataclass
class _Acting:
    """One environment: the policy's carry there, and what of its last decision is still to be done."""

    carry: Carry
    ahead: deque[Tensor] = field(default_factory=deque)


class SingleSteps:
    """A policy whose action ``[k * A]`` is k of the environment's, done one after the other.

    It is asked anew when these are done, or an episode begins: in each environment by itself, whose episodes end when
    they do. What it was before is in the object, so one serves one stretch of acting.
    """

    def __init__(self, policy: Policy, *, frame_skip: int) -> None:
        self._policy, self._skip = policy, frame_skip
        self.model = getattr(policy, "model", None)
        self._acting: list[_Acting] = []

    @property
    def latent_spec(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """Nothing: between two decisions there is none."""
        return {}

    def initial(self, batch_size: int) -> Carry:
        """Begin anew in so many environments."""
        self._acting = [_Acting(self._policy.initial(1)) for _ in range(batch_size)]
        return {}

    def __call__(
        self, obs: dict[str, Tensor], carry: Carry, *, is_first: Tensor, explore: bool
    ) -> tuple[Tensor, Carry]:
        """Return the actions ``[N, A]`` of this step."""
        for i, one in enumerate(self._acting):
            if one.ahead and not is_first[i]:
                continue
            here: dict[str, Any] = {name: rows[i : i + 1] for name, rows in obs.items()}
            action, one.carry = self._policy(here, one.carry, is_first=is_first[i : i + 1], explore=explore)
            one.ahead = deque(action[0].reshape(self._skip, -1))
        return torch.stack([one.ahead.popleft() for one in self._acting]), carry

    def latents(self, carry: Carry) -> dict[str, Tensor]:
        """Return nothing."""
        return {}
