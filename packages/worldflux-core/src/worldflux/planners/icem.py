"""iCEM: CEM that remembers elites, decays its population and samples noise that is correlated over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from worldflux.core.fields import Count, Field, NonNegative, Positive, Share
from worldflux.core.policy import Carry

from .elites import fit, select, shift
from .noise import Noise, coloring
from .planner import Plan, Planner, time_major
from .problem import Problem, require
from .space import ActionSpace


@dataclass(frozen=True, kw_only=True)
class ICEMPlanner(Planner):
    """CEM for few samples: the best plan ever seen in the call is done, elites and mean are kept for the next one.

    ``noise_beta`` is the exponent of the noise's power spectrum over time (0 white, 2 Brownian, more is smoother);
    discrete parts always draw white noise. ``decay`` divides the population after each iteration (never below twice
    the elites). ``reuse`` is the share of elites kept from iteration to iteration and, one step later, from call to
    call. Defaults: Pinneri et al. 2020, "Sample-efficient Cross-Entropy Method for Real-time Planning" §3 and the
    settings "blitz" of martius-lab/iCEM. Different on purpose: noise of variance exactly 1, std at least ``min_std``.
    """

    horizon: Count = 30
    num_samples: Count = 40
    num_elites: Count = 10
    iterations: Count = 3
    noise_beta: NonNegative = 3.0
    decay: Annotated[float, Field(ge=1)] = 1.25
    reuse: Share = 0.3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.1
    init_std: Positive = 0.5
    min_std: Positive = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            2 * self.num_elites <= self.num_samples,
            f"num_elites={self.num_elites} of num_samples={self.num_samples}: iCEM needs at least twice as many "
            "samples as elites",
        )
        require(self.min_std <= self.init_std, f"need min_std <= init_std: {self.min_std}, {self.init_std}")

    @property
    def kept(self) -> int:
        """How many elites are kept."""
        return int(self.num_elites * self.reuse)

    @property
    def populations(self) -> list[int]:
        """Samples of each iteration."""
        counts = [self.num_samples]
        for _ in range(self.iterations - 1):
            counts.append(max(2 * self.num_elites, int(counts[-1] / self.decay)))
        return counts

    def initial(self, space: ActionSpace, num_envs: int, *, device: torch.device, dtype: torch.dtype) -> Carry:
        """``mean [E, H, A]``, kept ``elites [E, K', H, A]`` and ``warm [E]``, whether they are of this episode."""
        mean = space.center(device=device, dtype=dtype).repeat(num_envs, self.horizon, 1)
        elites = mean.unsqueeze(1).repeat(1, self.kept, 1, 1)
        return {"mean": mean, "elites": elites, "warm": torch.zeros(num_envs, dtype=torch.bool, device=device)}

    def draw(self, problem: Problem, generator: torch.Generator) -> Noise:
        """Samples (colored when used), last actions of kept elites, exploration and the objective's draws."""
        counts = self.populations
        counts[0] += self.kept  # a fresh episode has no elites to reuse: samples stand in for them
        noise = self._draw(problem, generator, counts, counts)
        noise.shift = problem.space.noise(problem.num_envs, self.kept, generator=generator, dtype=problem.dtype)
        return noise

    @torch.no_grad()
    def search(self, problem: Problem, noise: Noise, carry: Carry, *, explore: bool = False) -> Plan:
        """Sample, add the elites kept, select, refit; then the best plan of all."""
        space, kept = problem.space, self.kept
        color = coloring(self.horizon, self.noise_beta, device=problem.device, dtype=problem.dtype)
        mean = space.restart(shift(carry["mean"], carry["mean"][:, -1]))
        mean, std = space.bound(mean, torch.full_like(mean, self.init_std), self.min_std)
        elites = best = None
        for i, (samples, drawn) in enumerate(zip(noise.samples, noise.objective)):
            candidates = space.sample(mean.unsqueeze(1), std.unsqueeze(1), _colored(space, samples, color))
            if i == 0:
                candidates = self._with_kept(space, candidates, carry, mean, std, noise)
            if i == self.iterations - 1:
                candidates[:, 0] = space.mode(mean)
            scores = self._scorer(problem, candidates.shape[1])(candidates, drawn)
            if elites is not None and best is not None:
                candidates = torch.cat([candidates, elites[:, :kept]], 1)
                scores = torch.cat([scores, best[:, :kept]], 1)
            elites, best = select(candidates, scores, self.num_elites)
            new_mean, new_std = fit(elites)
            mean, std = torch.lerp(new_mean, mean, self.momentum), torch.lerp(new_std, std, self.momentum)
            mean, std = space.bound(mean, std, self.min_std)
        assert elites is not None and best is not None
        actions = elites[:, 0]
        if explore:
            actions = self._explore(space, actions, noise)
        warm = torch.ones_like(carry["warm"])
        return Plan(time_major(actions), best[:, 0], {"mean": mean, "elites": elites[:, :kept], "warm": warm})

    def _with_kept(
        self, space: ActionSpace, candidates: Tensor, carry: Carry, mean: Tensor, std: Tensor, noise: Noise
    ) -> Tensor:
        """The candidates, the last of them replaced by the previous call's elites where there was one."""
        if not self.kept:
            return candidates
        assert noise.shift is not None
        last = space.sample(mean[:, None, -1], std[:, None, -1], noise.shift)
        reused = torch.where(
            carry["warm"].reshape(-1, 1, 1, 1), shift(carry["elites"], last), candidates[:, -self.kept :]
        )
        return torch.cat([candidates[:, : -self.kept], reused], 1)


def _colored(space: ActionSpace, noise: Tensor, color: Tensor) -> Tensor:
    """White ``noise [E, N, H, A]`` correlated over time, but for discrete parts."""
    colored = torch.einsum("enha,hk->enka", noise, color)
    for where in space.discrete:
        colored[..., where] = noise[..., where]
    return colored
