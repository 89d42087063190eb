"""Acting in an environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worldflux.core.policy import Carry

if TYPE_CHECKING:
    from .model import MBPO


class ActorPolicy:
    """The actor. ``explore`` samples, and before the first update anything at random; without it nothing is drawn.

    It remembers nothing.
    """

    latent_spec: Mapping[str, tuple[tuple[int, ...], str]] = {}

    def __init__(self, model: MBPO, *, generator: torch.Generator | None = None) -> None:
        self.model, self._generator = model, generator

    def initial(self, batch_size: int) -> Carry:
        """Nothing."""
        return {}

    @torch.no_grad()
    def __call__(
        self, obs: dict[str, Tensor], carry: Carry, *, is_first: Tensor, explore: bool
    ) -> tuple[Tensor, Carry]:
        """Actions ``[N, A]`` for observations ``[N, ...]``."""
        model = self.model
        device = model.updates.device
        seen = model.encode({name: value.to(device) for name, value in obs.items()}, deterministic=True)["obs"]
        if not explore:
            return model.actor.act(seen, None), {}
        generator = self._generator or model.generator(device)
        if not bool(model.updates):
            size = (len(seen), model.config.actions.dim)
            return torch.rand(size, generator=generator, device=device) * 2 - 1, {}
        return model.actor.act(seen, model.actor.noise(len(seen), generator=generator, device=device)), {}

    def latents(self, carry: Carry) -> dict[str, Tensor]:
        """Nothing is kept in a replay."""
        return {}
