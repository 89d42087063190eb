"""Acting in an environment: at random until something was learnt, then by planning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worldflux.core.policy import Carry
from worldflux.core.state import State
from worldflux.planners import CEMPlanner, PlannerPolicy, RewardObjective

from ..distributions import one_hot

if TYPE_CHECKING:
    from .config import PlaNetConfig
    from .model import PlaNet


def make_planner(config: PlaNetConfig) -> CEMPlanner:
    """The cross-entropy method with the settings of a model."""
    return CEMPlanner(
        horizon=config.horizon,
        num_samples=config.num_samples,
        num_elites=config.num_elites,
        iterations=config.iterations,
        exploration=config.exploration,
    )


class PlaNetPolicy(PlannerPolicy):
    """Plans at every step for the sum of predicted rewards. Where it explores before the model's first update, when
    plans would mean nothing, actions are uniform: the seed episodes.

    With ``explore`` filtered and imagined latents are sampled, and noise is added to the action; without it nothing is
    drawn. The carry is ``PlannerPolicy``'s.

    Source: Hafner et al. 2019 (PlaNet) algorithms 1 and 2.
    """

    model: PlaNet

    def __init__(self, model: PlaNet, *, generator: torch.Generator | None = None) -> None:
        objective = RewardObjective(discount=1.0, terminal=False)
        planner = make_planner(model.config)
        super().__init__(model, planner, objective, generator=generator, deterministic=False)

    @torch.no_grad()
    def __call__(
        self, obs: dict[str, Tensor], carry: Carry, *, is_first: Tensor, explore: bool
    ) -> tuple[Tensor, Carry]:
        """Actions ``[N, A]`` for observations ``[N, ...]`` and the next carry."""
        if not explore or bool(self.model.updates):
            return super().__call__(obs, carry, is_first=is_first, explore=explore)
        device = carry["action"].device
        first = is_first.bool().to(device)
        kept = {  # zeros: nothing was observed or done
            name: value.masked_fill(first.reshape(-1, *[1] * (value.ndim - 1)), 0) for name, value in carry.items()
        }
        before = State({name: kept[f"state.{name}"] for name in ("deter", "stoch")})
        state = self.model.update(before, kept["action"], {name: value.to(device) for name, value in obs.items()})
        action = self._random(len(is_first), device)
        state_carry = {f"state.{name}": value for name, value in state.tensors.items()}
        return action, {**kept, "action": action, "step": kept["step"] + 1, **state_carry}

    def _random(self, size: int, device: torch.device) -> Tensor:
        spec = self.model.config.actions
        uniform = torch.rand(size, spec.dim, generator=self._generator or self.model.generator(device), device=device)
        action = uniform * 2 - 1
        for part, place in spec.slices():
            if part.kind == "discrete":
                action[:, place] = one_hot(uniform[:, place].argmax(-1), part.dim)
        return action
