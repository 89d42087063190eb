"""Acting at random: the baseline, and the first rows of a replay."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionSpec


class RandomPolicy:
    """Uniform actions: one-hot for discrete parts, in [-1, 1] for continuous ones. Implements ``core.Policy``."""

    latent_spec: dict[str, tuple[tuple[int, ...], str]] = {}

    def __init__(self, action_spec: ActionSpec, *, seed: int = 0) -> None:
        if not isinstance(action_spec, ActionSpec):
            raise ConfigurationError(f"action_spec is {action_spec!r}, expected an ActionSpec such as env.action_spec")
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ConfigurationError(f"seed is {seed!r}, expected a whole number of at least 0")
        self._spec, self._rng = action_spec, np.random.default_rng(seed)

    def initial(self, batch_size: int) -> dict[str, Tensor]:
        """Return an empty carry."""
        return {}

    def __call__(
        self, obs: dict[str, Tensor], carry: dict[str, Tensor], *, is_first: Tensor, explore: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return random actions ``[N, A]``; ``explore`` makes no difference."""
        num = len(is_first)
        actions = np.zeros((num, self._spec.dim), np.float32)
        for part, where in self._spec.slices():
            if part.kind == "discrete":
                actions[:, where][np.arange(num), self._rng.integers(part.dim, size=num)] = 1
            else:
                actions[:, where] = self._rng.uniform(-1, 1, size=(num, part.dim))
        return torch.from_numpy(actions), carry

    def latents(self, carry: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return nothing: there are none."""
        return {}

    def rng_state(self) -> dict[str, Any]:
        """Return the generator's state, JSON-able."""
        return dict(self._rng.bit_generator.state)

    def set_rng_state(self, state: dict[str, Any]) -> None:
        """Restore what ``rng_state`` returned."""
        self._rng.bit_generator.state = state


class PersistentPolicy(RandomPolicy):
    """Uniform actions of which each is kept for ``hold`` steps: a walk that gets somewhere."""

    def __init__(self, action_spec: ActionSpec, *, seed: int = 0, hold: int = 8) -> None:
        super().__init__(action_spec, seed=seed)
        self.hold = hold

    def initial(self, batch_size: int) -> dict[str, Tensor]:
        """Return a carry: what is done, and for how many more steps."""
        return {"action": torch.zeros(batch_size, self._spec.dim), "left": torch.zeros(batch_size, dtype=torch.int64)}

    def __call__(
        self, obs: dict[str, Tensor], carry: dict[str, Tensor], *, is_first: Tensor, explore: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return actions ``[N, A]``; ``explore`` makes no difference."""
        drawn, _ = super().__call__(obs, {}, is_first=is_first, explore=explore)
        anew = is_first.bool() | (carry["left"] == 0)
        action = torch.where(anew[:, None], drawn, carry["action"])
        return action, {"action": action, "left": torch.where(anew, self.hold, carry["left"]) - 1}
