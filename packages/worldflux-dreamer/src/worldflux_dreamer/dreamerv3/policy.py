"""Acting in an environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worldflux import Carry, Observations, State
from worldflux.blocks import check_acting, forget, policy_call

from .rssm import features

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
        classes = str(stored_classes(config.classes)).removeprefix("torch.")
        return {"deter": ((config.deter_dim,), "float16"), "stoch": ((config.stoch,), classes)}

    def initial(self, batch_size: int) -> Carry:
        """Zeros: the state before the first observation, and no action."""
        state = self.model.initial_state(batch_size)
        return {**state.tensors, "action": state["deter"].new_zeros(batch_size, self.model.config.actions.dim)}

    @policy_call
    @torch.no_grad()
    def __call__(self, obs: Observations, carry: Carry, *, is_first: Tensor, explore: bool) -> tuple[Tensor, Carry]:
        """Actions ``[N, A]`` for observations ``[N, ...]`` and the next carry; ``is_first [N]`` forgets the carry."""
        check_acting(carry, is_first, needs=("deter", "stoch", "action"))
        model, device, size = self.model, carry["deter"].device, len(carry["deter"])
        before = State(forget(carry, is_first.bool().to(device)))
        action = before.tensors.pop("action")
        latent_noise = action_noise = None
        if explore:
            generator = self._generator or model.generator(device)
            latent_noise = torch.rand(size, model.config.stoch, generator=generator, device=device)
            action_noise = model.actor.noise(size, generator=generator, device=device)
        conditioned, seen = model.action_conditioner.condition(before, action), model.observations(obs)
        state = model.filtered(before, conditioned, seen, latent_noise)
        # the actor's normal has no bounds, the contract's actions do; dynamics and environment cut there, too
        action = model.actor(features(state)).sample(action_noise).clamp(-1.0, 1.0)
        return action, {**state.tensors, "action": action}

    def latents(self, carry: Carry) -> dict[str, Tensor]:
        """The carry's state as ``latent_spec`` describes it."""
        stoch = carry["stoch"]
        return {"deter": carry["deter"].half(), "stoch": stoch.argmax(-1).to(stored_classes(stoch.shape[-1]))}


def stored_classes(classes: int) -> torch.dtype:
    """The smallest kind of number that tells so many classes apart."""
    return torch.uint8 if classes <= 256 else torch.int16
