"""Random shooting: the best of many plans drawn blindly."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from worldflux.core.fields import Count
from worldflux.core.policy import Carry

from .elites import select
from .noise import Noise
from .planner import Plan, Planner, time_major
from .problem import Problem


@dataclass(frozen=True, kw_only=True)
class RandomShootingPlanner(Planner):
    """Uniform plans, of which the best is done: the baseline, right for short horizons and few actions.

    Source: Nagabandi et al. 2018, "Neural network dynamics for model-based deep RL" §IV-D (K = 5000, horizon 20 for
    HalfCheetah).
    """

    horizon: Count = 20
    num_samples: Count = 5000

    def draw(self, problem: Problem, generator: torch.Generator) -> Noise:
        """Candidates, exploration and the objective's draws."""
        noise = self._draw(problem, generator, [], [self.num_samples])
        shape = problem.num_envs, self.num_samples, self.horizon
        noise.samples = [problem.space.uniform(*shape, generator=generator, dtype=problem.dtype)]
        return noise

    @torch.no_grad()
    def search(self, problem: Problem, noise: Noise, carry: Carry, *, explore: bool = False) -> Plan:
        """Score the candidates and take the best."""
        candidates = problem.space.clip(noise.samples[0])
        best, score = select(candidates, self._scorer(problem, self.num_samples)(candidates, noise.objective[0]), 1)
        actions = best[:, 0]
        if explore:
            actions = self._explore(problem.space, actions, noise)
        return Plan(time_major(actions), score[:, 0])
