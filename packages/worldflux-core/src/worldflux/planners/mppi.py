"""MPPI as TD-MPC2 plans: policy proposals among the candidates, elites weighed by their exponentiated scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldflux.core.fields import Amount, Count, NonNegative, Positive, Share
from worldflux.core.policy import Carry

from .cem import check_elites
from .elites import fit, select, shift
from .noise import Noise
from .offers import OffersProposals
from .planner import Plan, Planner, time_major
from .problem import Problem, require
from .space import ActionSpace, gumbel


@dataclass(frozen=True, kw_only=True)
class MPPIPlanner(Planner):
    """Model predictive path integral control over elites, warm-started by the previous mean one step later.

    Among the ``num_samples`` candidates of every iteration are ``num_proposals`` plans of the model's own policy
    (None: 24, or fewer if samples are few, where the model offers proposals, else none). Elites weigh
    ``softmax(temperature * score)``; the plan done is one of the last elites, drawn by weight (``sample_elite=False``:
    the best). Exploring adds noise of the final std to continuous parts and draws discrete ones from their final
    probabilities, mixed with ``exploration`` of the uniform distribution.

    Defaults: Hansen et al. 2024 (TD-MPC2) §3.2 and appendix H, nicklashansen/tdmpc2; it takes two more iterations for
    20 or more action dimensions. Williams et al. 2015 is the origin of MPPI.
    """

    horizon: Count = 3
    exploration: Share = 0.05
    num_samples: Count = 512
    num_elites: Count = 64
    num_proposals: Amount | None = None
    iterations: Count = 6
    temperature: NonNegative = 0.5
    min_std: Positive = 0.05
    max_std: Positive = 2.0
    sample_elite: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_elites(self.num_elites, self.num_samples)
        require(
            (self.num_proposals or 0) < self.num_samples,
            f"num_proposals={self.num_proposals} of num_samples={self.num_samples}: leave candidates to sample",
        )
        require(self.min_std <= self.max_std, f"need min_std <= max_std: {self.min_std}, {self.max_std}")

    def check(self, problem: Problem) -> None:
        """Raise ConfigurationError if proposals are asked of a model that has none."""
        model = problem.model
        require(
            not self.num_proposals or isinstance(model, OffersProposals),
            f"num_proposals={self.num_proposals}, but {type(model).__name__} offers no proposals "
            "(worldflux.planners.OffersProposals): leave num_proposals=None",
        )

    def proposals(self, problem: Problem) -> int:
        """How many candidates are the model's own."""
        if not isinstance(problem.model, OffersProposals):
            return 0
        return min(24, self.num_samples // 2) if self.num_proposals is None else self.num_proposals

    def initial(self, space: ActionSpace, num_envs: int, *, device: torch.device, dtype: torch.dtype) -> Carry:
        """``mean [E, H, A]``."""
        return {"mean": space.center(device=device, dtype=dtype).repeat(num_envs, self.horizon, 1)}

    def draw(self, problem: Problem, generator: torch.Generator) -> Noise:
        """Samples, the policy's and the objective's draws, the choice of the elite, exploration."""
        own, envs = self.proposals(problem), problem.num_envs
        noise = self._draw(
            problem, generator, [self.num_samples - own] * self.iterations, [self.num_samples] * self.iterations
        )
        noise.choice = gumbel(envs, self.num_elites, generator=generator, dtype=problem.dtype)
        if own and isinstance(problem.model, OffersProposals):
            device = generator.device
            noise.proposals = problem.model.proposal_noise(self.horizon, envs * own, generator=generator, device=device)
        return noise

    @torch.no_grad()
    def search(self, problem: Problem, noise: Noise, carry: Carry, *, explore: bool = False) -> Plan:
        """Sample, select, weigh, refit; then one elite."""
        space, score = problem.space, self._scorer(problem, self.num_samples)
        own = self._propose(problem, noise)
        center = space.center(device=problem.device, dtype=problem.dtype)
        mean = space.restart(shift(carry["mean"], center))
        std = torch.full_like(mean, self.max_std)
        for samples, drawn in zip(noise.samples, noise.objective):
            candidates = torch.cat([own, space.sample(mean.unsqueeze(1), std.unsqueeze(1), samples)], 1)
            elites, best = select(candidates, score(candidates, drawn), self.num_elites)
            weights = (self.temperature * (best - best[:, :1])).softmax(1)
            mean, std = space.bound(*fit(elites, weights), self.min_std, self.max_std)
        choice = torch.zeros_like(best[:, 0], dtype=torch.long)  # elites come best first
        if self.sample_elite and noise.choice is not None:
            choice = (weights.log() + noise.choice).argmax(1)
        actions = elites[torch.arange(len(choice), device=choice.device), choice]
        if explore:
            first = actions[:, 0].clone()
            for where in space.discrete:
                first[:, where] = mean[:, 0, where]
            first = space.sample(space.soften(first, self.exploration), std[:, 0], noise.explore)
            actions = torch.cat([first.unsqueeze(1), actions[:, 1:]], 1)
        return Plan(time_major(actions), best[:, 0], {"mean": mean})

    def _propose(self, problem: Problem, noise: Noise) -> Tensor:
        """The model's own candidates ``[E, P, H, A]``, P may be 0."""
        count, envs, space = self.proposals(problem), problem.num_envs, problem.space
        if not count or not isinstance(problem.model, OffersProposals):
            return torch.empty(envs, 0, self.horizon, space.dim, device=problem.device, dtype=problem.dtype)
        state, _ = problem.repeated(count)
        plans = problem.model.propose(state, self.horizon, noise.proposals).to(problem.dtype)
        return space.clip(plans.unflatten(1, (envs, count)).permute(1, 2, 0, 3))
