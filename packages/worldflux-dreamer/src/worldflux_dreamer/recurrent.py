"""What DreamerV3 and PlaNet have in common: a state with memory (``deter``) and chance (``stoch``).

The dynamics predict the next one (the prior), a posterior corrects its latents by what is seen.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from worldflux import State, WorldModel
from worldflux.blocks import KnownActions, forget


class RecurrentModel(WorldModel):
    """The slots of such a model, and its doors but for ``correct``."""

    # slots, each replaceable by anything with the slot's method
    observation_encoder: Any
    action_conditioner: Any
    dynamics_model: Any
    decoder: Any
    posterior: Any

    def build(self, encoder: type[Any], dynamics: type[Any], decoder: type[Any], posterior: type[Any]) -> None:
        """Fill the slots with the family's own parts."""
        self.observation_encoder = encoder(self.config)
        self.action_conditioner = KnownActions(self.config.actions)
        self.dynamics_model, self.decoder = dynamics(self.config), decoder(self.config)
        self.posterior = posterior(self.config, self.observation_encoder.token_dim)

    def parts(self) -> list[Any]:
        """What has weights, in the order in which it is initialised, whatever was put into a slot since."""
        return [self.observation_encoder, self.action_conditioner, self.dynamics_model, self.decoder, self.posterior]

    @abstractmethod
    def noise(self, *shape: int, device: torch.device) -> Tensor:
        """Draw ``[*shape, S]``, from the model's generator, for latents of this shape."""

    def begin(self, obs: dict[str, Tensor], *, deterministic: bool) -> State:
        return self.correct(*self.before_anything(obs), obs, deterministic=deterministic)

    def advance(self, state: State, action: Tensor, conditioned: dict[str, Tensor], *, deterministic: bool) -> State:
        noise = None if deterministic else self.noise(state.batch_size, device=state.device)
        return latent(predict(self.dynamics_model, state, conditioned, noise))

    def tokens(self, obs: dict[str, Tensor]) -> Tensor:
        """Embedding ``[..., E]`` of checked observations. Raises ConfigurationError for an encoder of another width."""
        return self.encoded(obs, "tokens", self.posterior.token_dim)


def predict(dynamics: Any, state: State, conditioned: dict[str, Tensor], noise: Tensor | None) -> State:
    """What dynamics predict, latents drawn by ``noise``; without it, their best guess."""
    if noise is not None:
        conditioned = {**conditioned, "noise": noise}
    return dynamics.transition(state, conditioned, deterministic=noise is None)


def follow(dynamics: Any, conditioner: Any, state: State, action: Tensor, is_first: Tensor) -> State:
    """What dynamics predict without noise after ``action [B, A]``; from zeros where ``is_first [B]``."""
    known = forget({**state.tensors, "action": action}, is_first)
    action = known.pop("action")
    state = State(known)
    return predict(dynamics, state, conditioner.condition(state, action), None)


def latent(state: State) -> State:
    """Only what a state keeps: of what dynamics give beside it is the prior's distribution."""
    return State({name: state[name] for name in ("deter", "stoch")}, state.meta)


def kernels(parts: Iterable[Any]) -> Iterator[tuple[nn.Module, nn.Parameter]]:
    """Each layer that has a ``kernel``, with it, in order; meta tensors are left out."""
    for part in parts:
        for layer in part.modules() if isinstance(part, nn.Module) else ():
            kernel = getattr(layer, "kernel", None)
            if isinstance(kernel, nn.Parameter) and not kernel.is_meta:
                yield layer, kernel
