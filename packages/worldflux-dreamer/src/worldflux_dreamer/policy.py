"""Acting in an environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worldflux.core.policy import Carry
from worldflux.core.state import State

from .decoder import features
from .distributions import sample_latent

if TYPE_CHECKING:
    from .model import DreamerV3


class DreamerPolicy:
    """The actor on top of the filtered state. ``explore`` samples latents and actions; without it nothing is drawn.

    The carry holds ``deter [N, D]``, ``stoch [N, S, C]`` and the last ``action [N, A]``.
    """

    def __init__(self, model: DreamerV3, *, generator: torch.Generator | None = None) -> None:
        self.model, self._generator = model, generator

    @property
    def latent_spec(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """What a replay keeps per row: ``deter`` in half precision (it lies in [-1, 1]), ``stoch`` as class indices."""
        config = self.model.config
        classes = "uint8" if config.classes <= 256 else "int16"
        return {"deter": ((config.deter_dim,), "float16"), "stoch": ((config.stoch,), classes)}

    def initial(self, batch_size: int) -> Carry:
        """Zeros: the state before the first observation, and no action."""
        state = self.model.initial_state(batch_size)
        return {**state.tensors, "action": state["deter"].new_zeros(batch_size, self.model.config.actions.dim)}

    @torch.no_grad()
    def __call__(
        self, obs: dict[str, Tensor], carry: Carry, *, is_first: Tensor, explore: bool
    ) -> tuple[Tensor, Carry]:
        """Actions ``[N, A]`` for observations ``[N, ...]`` and the next carry; ``is_first [N]`` forgets the carry."""
        model, device = self.model, carry["deter"].device
        size = carry["deter"].shape[0]
        keep = (~is_first.bool()).to(device).float()
        kept = {name: value * keep.reshape(-1, *[1] * (value.ndim - 1)) for name, value in carry.items()}
        observations = model.observations({name: value.to(device) for name, value in obs.items()})
        before = State({name: kept[name] for name in ("deter", "stoch")})
        conditioned = model.condition(before, kept["action"])
        deter = model.dynamics_model.transition(before, conditioned, deterministic=True)["deter"]
        latent_noise = action_noise = None
        if explore:
            generator = self._generator or model.generator(device)
            latent_noise = torch.rand(size, model.config.stoch, generator=generator, device=device)
            action_noise = model.actor.noise(size, generator=generator, device=device)
        logits = model.posterior(deter, model.tokens(observations))
        stoch = sample_latent(logits, model.config.unimix, latent_noise)
        # the actor's normal has no bounds, the contract's actions do; dynamics and environment cut there, too
        action = model.actor(features(deter, stoch)).sample(action_noise).clamp(-1.0, 1.0)
        return action, {"deter": deter, "stoch": stoch, "action": action}

    def latents(self, carry: Carry) -> dict[str, Tensor]:
        """The carry's state as ``latent_spec`` describes it."""
        (_, deter), (_, stoch) = self.latent_spec["deter"], self.latent_spec["stoch"]
        return {
            "deter": carry["deter"].to(getattr(torch, deter)),
            "stoch": carry["stoch"].argmax(-1).to(getattr(torch, stoch)),
        }
