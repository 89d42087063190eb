"""The cross-entropy method as LeWM's authors plan."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from worldflux import Count, Positive
from worldflux.planners import CEMPlanner, Noise, Plan, Problem


@dataclass(frozen=True, kw_only=True)
class LeWMPlanner(CEMPlanner):
    """Each iteration also scores the mean itself, and refits to the unbiased deviation of the elites, however small.

    Of a warm start what is left of the previous plan is the mean, and its end 0. ``bounded=False`` lets candidates and
    plan leave [-1, 1], as the official program does in its standardised actions. Defaults: 300 candidates, 30
    iterations, 30 elites, horizon 5. Source: Maes et al. 2026 (LeWM); the authors' ``solver/cem.py``.
    """

    horizon: Count = 5
    num_samples: Count = 300
    num_elites: Count = 30
    iterations: Count = 30
    min_std: Positive = 1e-12
    warm_start: bool = True
    bounded: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_elites < 2:
            raise self.error(f"num_elites is {self.num_elites}: a deviation is that of 2 or more")

    def check(self, problem: Problem) -> None:
        """Raise ConfigurationError for actions that are chosen."""
        super().check(problem)
        if problem.space.discrete:
            raise self.error("LeWMPlanner plans numbers, these actions are choices: use CEMPlanner")

    @torch.no_grad()
    def search(self, problem: Problem, noise: Noise, carry: dict[str, torch.Tensor], *, explore: bool = False) -> Plan:
        """Sample, score, refit; then the mean."""
        space, score = problem.space, self._scorer(problem, self.num_samples)
        within = space.clip if self.bounded else torch.nn.Identity()
        if self.warm_start:
            mean = torch.cat([carry["mean"][:, 1:], torch.zeros_like(carry["mean"][:, :1])], 1)
        else:
            mean = torch.zeros_like(noise.samples[0][:, 0])
        std = torch.full_like(mean, self.init_std)
        for samples, drawn in zip(noise.samples, noise.objective):
            candidates = within(
                torch.cat([mean.unsqueeze(1), mean.unsqueeze(1) + std.unsqueeze(1) * samples[:, 1:]], 1)
            )
            scores, best = score(candidates, drawn).topk(self.num_elites, 1)
            elites = candidates.gather(1, best[:, :, None, None].expand(-1, -1, *mean.shape[1:]))
            mean, std = elites.mean(1), elites.std(1).clamp(min=self.min_std)
        actions = self._explore(space, mean, noise) if explore else within(mean)
        return Plan(actions.transpose(0, 1).contiguous(), scores[:, 0], {"mean": mean} if self.warm_start else {})
