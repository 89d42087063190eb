"""Acting in an environment: by planning, or as the policy prior suggests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worldflux.core.policy import Carry, Policy
from worldflux.core.state import State
from worldflux.planners import MPPIPlanner, Problem, RewardObjective

from .config import TASK, TDMPC2Config

if TYPE_CHECKING:
    from .model import TDMPC2


def make_planner(config: TDMPC2Config) -> MPPIPlanner:
    """MPPI with the settings of a model."""
    return MPPIPlanner(
        horizon=config.horizon,
        num_samples=config.num_samples,
        num_elites=config.num_elites,
        num_proposals=config.num_pi_trajs,
        iterations=config.plan_iterations,
        temperature=config.temperature,
        min_std=config.min_std,
        max_std=config.max_std,
        compiled=config.compiled,
        mixed_precision=config.plan_mixed_precision,
    )


def make_objective(model: TDMPC2) -> RewardObjective:
    """Discounted rewards and the critics' value of the last state; where an episode ends nothing counts any more."""

    several = model.config.num_tasks > 1
    return RewardObjective(discount=model.discounts if several else model.config.discounts[0], continues="hard")


def make_policy(model: TDMPC2, *, generator: torch.Generator | None = None) -> Policy:
    """The policy of a model: at random until it has learnt anything, then the planner or the policy prior."""
    if not model.config.mpc:
        return SeedPolicy(model, PriorPolicy(model, generator=generator), generator=generator)
    return SeedPolicy(model, PlanningPolicy(model, generator=generator), generator=generator)


class PlanningPolicy:
    """Plans at every step. The carry is the ``mean [N, H, A]`` the next plan starts from, and the number of the
    ``step [N]`` in the episode.

    Candidates are drawn, and an elite by its weight; ``explore`` adds noise to it. Without it the numbers follow from
    the step alone, so that nothing is left to chance.
    """

    latent_spec: Mapping[str, tuple[tuple[int, ...], str]] = {}

    def __init__(self, model: TDMPC2, *, generator: torch.Generator | None = None) -> None:
        self.model, self._generator = model, generator
        self.planner, self.objective = make_planner(model.config), make_objective(model)

    def initial(self, batch_size: int) -> Carry:
        """Zeros (of discrete actions equal probabilities): nothing is planned yet."""
        problem = self._problem(self.model.initial_state(batch_size))
        warm = self.planner.initial(problem.space, batch_size, device=problem.device, dtype=problem.dtype)
        return {**warm, "step": torch.zeros(batch_size, dtype=torch.int64, device=problem.device)}

    @torch.no_grad()
    def __call__(
        self, obs: dict[str, Tensor], carry: Carry, *, is_first: Tensor, explore: bool
    ) -> tuple[Tensor, Carry]:
        """Actions ``[N, A]`` for observations ``[N, ...]`` and the next carry."""
        device = carry["mean"].device
        state = self.model.encode({name: value.to(device) for name, value in obs.items()}, deterministic=True)
        problem, fresh = self._problem(state), self.initial(state.batch_size)
        first = is_first.to(device).bool()
        mean = torch.where(first[:, None, None], fresh["mean"], carry["mean"])
        step = carry["step"].masked_fill(first, 0)
        if explore:
            noise = self.planner.draw(problem, self._generator or self.model.generator(device))
        else:
            noise = self.planner.draw_repeatably(problem, step)
        plan = self.planner.search(problem, noise, {"mean": mean}, explore=explore)
        return plan.actions[0], {**plan.carry, "step": step + 1}

    def latents(self, carry: Carry) -> dict[str, Tensor]:
        """Nothing is kept in a replay."""
        return {}

    def _problem(self, state: State) -> Problem:
        return Problem.of(self.model, state, self.objective)


class PriorPolicy:
    """The policy prior alone; ``explore`` samples, without it nothing is drawn. It remembers nothing."""

    latent_spec: Mapping[str, tuple[tuple[int, ...], str]] = {}

    def __init__(self, model: TDMPC2, *, generator: torch.Generator | None = None) -> None:
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
        device = next(model.parameters()).device
        state = model.encode({name: value.to(device) for name, value in obs.items()}, deterministic=True)
        noise = None
        if explore:
            generator = self._generator or model.generator(device)
            noise = model.prior.noise(state.batch_size, generator=generator, device=device)
        return model.act(state, noise), {}

    def latents(self, carry: Carry) -> dict[str, Tensor]:
        """Nothing is kept in a replay."""
        return {}


class SeedPolicy:
    """Explores at random before the model's first update, when plans would mean nothing; then it is another policy."""

    def __init__(self, model: TDMPC2, policy: Policy, *, generator: torch.Generator | None = None) -> None:
        self.model, self.learnt, self._generator = model, policy, generator
        self.latent_spec = policy.latent_spec

    def initial(self, batch_size: int) -> Carry:
        """The other policy's carry of fresh episodes."""
        return self.learnt.initial(batch_size)

    @torch.no_grad()
    def __call__(
        self, obs: dict[str, Tensor], carry: Carry, *, is_first: Tensor, explore: bool
    ) -> tuple[Tensor, Carry]:
        """Actions ``[N, A]`` for observations ``[N, ...]`` and the next carry."""
        if not explore or bool(self.model.updates):
            return self.learnt(obs, carry, is_first=is_first, explore=explore)
        device = self.model.updates.device
        generator = self._generator or self.model.generator(device)
        return self._random(len(is_first), obs, generator, device), self.learnt.initial(len(is_first))

    def _random(self, size: int, obs: dict[str, Tensor], generator: torch.Generator, device: torch.device) -> Tensor:
        config = self.model.config
        uniform = torch.rand(size, config.actions.dim, generator=generator, device=device)
        mask = self.model.mask_of(obs[TASK].to(device).long()) if TASK in obs else None
        if config.prior == "categorical":
            allowed = uniform if mask is None else uniform.masked_fill(mask == 0, -1.0)
            return torch.nn.functional.one_hot(allowed.argmax(-1), config.actions.dim).to(uniform)
        action = uniform * 2 - 1
        return action if mask is None else action * mask

    def latents(self, carry: Carry) -> dict[str, Tensor]:
        """The other policy's latents."""
        return self.learnt.latents(carry)
