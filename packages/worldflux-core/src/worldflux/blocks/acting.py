"""A world model that has an actor: how it acts, and what it offers planners."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from worldflux.core.errors import ShapeMismatchError, ValidationError
from worldflux.core.model import WorldModel
from worldflux.core.payloads import WorldModelInput
from worldflux.core.policy import Carry, Policy
from worldflux.core.state import State

from .policies import policy_call


class ActingModel(WorldModel):
    """A world model whose actor reads a state that is complete: no memory beyond it is needed to act.

    A family says how (``act``, ``action_noise``) and has a policy, and plans that follow the actor in imagination
    (``worldflux.planners.OffersProposals``). One that also defines ``terminal_value`` tells planners what states are
    worth (``OffersValue``).
    """

    @abstractmethod
    def action_noise(self, *shape: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """Draw noise ``[*shape, A]`` for ``act``."""

    @abstractmethod
    def act(self, state: State, noise: Tensor | None) -> Tensor:
        """Return actions ``[B, A]``; without noise (``[B, A]``) the best guess."""

    def policy(self, *, generator: torch.Generator | None = None) -> Policy:  # type: ignore[override]
        """Return the actor as a policy; ``generator`` replaces the model's own."""
        return MemorylessPolicy(self, generator=generator)

    def value_noise(self, batch_size: int, *, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
        """Draw the actor's noise ``action [B, A]``."""
        return {"action": self.action_noise(batch_size, generator=generator, device=device)}

    def proposal_noise(
        self, horizon: int, batch_size: int, *, generator: torch.Generator, device: torch.device
    ) -> dict[str, Tensor]:
        """Draw the actor's noise ``action [H, B, A]``."""
        return {"action": self.action_noise(horizon, batch_size, generator=generator, device=device)}

    def propose(self, state: State, horizon: int, noise: dict[str, Tensor]) -> Tensor:
        """Return plans ``[H, B, A]`` of the actor in imagination."""
        actions = []
        for step in range(horizon):
            actions.append(self.act(state, noise["action"][step]))
            if step + 1 < horizon:
                state = self.transition(state, actions[-1], deterministic=True)
        return torch.stack(actions)


def check_acting(carry: object, is_first: object, *, needs: tuple[str, ...] = ()) -> None:
    """Raise ValidationError for what a policy is given beside observations and cannot act on."""
    if not isinstance(carry, Mapping) or any(not isinstance(carry.get(name), Tensor) for name in needs):
        got = sorted(map(str, carry)) if isinstance(carry, Mapping) else f"a {type(carry).__name__}"
        raise ValidationError(f"carry is {got}, expected what policy.initial(N) or the last call returned")
    if not isinstance(is_first, Tensor) or is_first.ndim != 1:
        kind = f"of shape {tuple(is_first.shape)}" if isinstance(is_first, Tensor) else f"a {type(is_first).__name__}"
        raise ValidationError(f"is_first is {kind}, expected a Tensor [N]: True where an episode begins")
    if needs and len(is_first) != len(carry[needs[0]]):
        raise ShapeMismatchError("environments of the carry", expected=len(is_first), got=len(carry[needs[0]]))


class MemorylessPolicy:
    """The actor of a model, on the state of what is seen now. ``explore`` samples; without it nothing is drawn."""

    latent_spec: Mapping[str, tuple[tuple[int, ...], str]] = {}

    def __init__(self, model: ActingModel, *, generator: torch.Generator | None = None) -> None:
        self.model, self._generator = model, generator

    def initial(self, batch_size: int) -> Carry:
        """Nothing: it remembers nothing."""
        return {}

    @policy_call
    @torch.no_grad()
    def __call__(
        self, obs: dict[str, Tensor] | Tensor | WorldModelInput, carry: Carry, *, is_first: Tensor, explore: bool
    ) -> tuple[Tensor, Carry]:
        """Actions ``[N, A]`` for observations ``[N, ...]``."""
        check_acting(carry, is_first)
        state = self.model.encode(obs, deterministic=True)
        if not explore:
            return self.model.act(state, None), {}
        generator = self._generator or self.model.generator(state.device)
        noise = self.model.action_noise(state.batch_size, generator=generator, device=state.device)
        return self.model.act(state, noise), {}

    def latents(self, carry: Carry) -> dict[str, Tensor]:
        """Nothing is kept in a replay."""
        return {}
