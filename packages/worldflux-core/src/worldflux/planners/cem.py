"""The cross-entropy method: sample plans, refit the distribution to the best, repeat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch

from worldflux.core.fields import Count, Field, Positive
from worldflux.core.policy import Carry

from .elites import fit, select, shift
from .noise import Noise
from .planner import Plan, Planner, time_major
from .problem import Problem, require
from .space import ActionSpace


@dataclass(frozen=True, kw_only=True)
class CEMPlanner(Planner):
    """Iteratively refitted normals (continuous parts) and categoricals (discrete parts); the final mean is done.

    ``momentum`` keeps that share of the previous mean and std. ``warm_start`` begins with the previous plan's mean one
    step later. Defaults: Hafner et al. 2019 (PlaNet) §3, algorithm 2: horizon 12, 1000 candidates, 10 iterations, the
    best 100, N(0, 1) to begin with, afresh at each step, std at least 1e-3. Assran et al. 2025 (V-JEPA 2-AC): momentum
    0.15.
    """

    horizon: Count = 12
    num_samples: Count = 1000
    num_elites: Count = 100
    iterations: Count = 10
    init_std: Positive = 1.0
    min_std: Positive = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    warm_start: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_elites(self.num_elites, self.num_samples)
        require(self.min_std <= self.init_std, f"need min_std <= init_std: {self.min_std}, {self.init_std}")

    def initial(self, space: ActionSpace, num_envs: int, *, device: torch.device, dtype: torch.dtype) -> Carry:
        """``mean [E, H, A]`` if plans are warm-started."""
        if not self.warm_start:
            return {}
        return {"mean": space.center(device=device, dtype=dtype).repeat(num_envs, self.horizon, 1)}

    def draw(self, problem: Problem, generator: torch.Generator) -> Noise:
        """Samples of each iteration, exploration and the objective's draws."""
        counts = [self.num_samples] * self.iterations
        return self._draw(problem, generator, counts, counts)

    @torch.no_grad()
    def search(self, problem: Problem, noise: Noise, carry: Carry, *, explore: bool = False) -> Plan:
        """Sample, select, refit; then the mean (of discrete parts the likeliest class)."""
        space, score = problem.space, self._scorer(problem, self.num_samples)
        center = space.center(device=problem.device, dtype=problem.dtype)
        mean = center.repeat(problem.num_envs, self.horizon, 1)
        if self.warm_start:
            mean = space.restart(shift(carry["mean"], center))
        mean, std = space.bound(mean, torch.full_like(mean, self.init_std), self.min_std)
        for samples, drawn in zip(noise.samples, noise.objective):
            candidates = space.sample(mean.unsqueeze(1), std.unsqueeze(1), samples)
            elites, best = select(candidates, score(candidates, drawn), self.num_elites)
            new_mean, new_std = fit(elites)
            mean, std = torch.lerp(new_mean, mean, self.momentum), torch.lerp(new_std, std, self.momentum)
            mean, std = space.bound(mean, std, self.min_std)
        actions = space.mode(mean)
        if explore:
            actions = self._explore(space, actions, noise)
        return Plan(time_major(actions), best[:, 0], {"mean": mean} if self.warm_start else {})


def check_elites(num_elites: int, num_samples: int) -> None:
    """Raise ConfigurationError if more elites are wanted than there are samples."""
    require(
        num_elites <= num_samples,
        f"num_elites={num_elites} of num_samples={num_samples}: take at most all of them, about a tenth is usual",
    )
