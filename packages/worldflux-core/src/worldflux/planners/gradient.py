"""Gradient planning: climb the objective through the model, from several starts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldflux.core.errors import ConfigurationError
from worldflux.core.fields import Count, NonNegative, Positive
from worldflux.core.policy import Carry

from .elites import select, shift
from .noise import Noise
from .planner import Plan, Planner, time_major
from .problem import Problem, require
from .space import ActionSpace


@dataclass(frozen=True, kw_only=True)
class GradientPlanner(Planner):
    """Adam on the actions of ``num_samples`` plans, projected onto the bounds; the best plan seen is done.

    One start is the warm start (the previous plan one step later; no action in a fresh episode), the others are drawn
    around it with ``init_std``. Needs continuous actions and a model and objective that are differentiable in them.
    There is no standard setting; Adam with restarts follows Terver et al. 2025 (JEPA-WMs) §4, projection Henaff et al.
    2017, "Model-based planning with discrete and continuous actions".
    """

    horizon: Count = 12
    num_samples: Count = 8
    iterations: Count = 50
    learning_rate: Positive = 0.1
    init_std: NonNegative = 0.5

    def check(self, problem: Problem) -> None:
        """Raise ConfigurationError for actions with discrete parts, which have no gradient."""
        discrete = [part.name for part in problem.space.spec.leaves() if part.kind == "discrete"]
        require(
            not discrete,
            f"GradientPlanner needs continuous actions, {discrete} of this model are discrete: use CEMPlanner, "
            "ICEMPlanner, MPPIPlanner or RandomShootingPlanner",
        )

    def initial(self, space: ActionSpace, num_envs: int, *, device: torch.device, dtype: torch.dtype) -> Carry:
        """``mean [E, H, A]``, the plan to begin with."""
        return {"mean": space.center(device=device, dtype=dtype).repeat(num_envs, self.horizon, 1)}

    def draw(self, problem: Problem, generator: torch.Generator) -> Noise:
        """Starts, exploration and the objective's draws: the same for all iterations, or the climb would jitter."""
        return self._draw(problem, generator, [self.num_samples], [self.num_samples])

    def search(self, problem: Problem, noise: Noise, carry: Carry, *, explore: bool = False) -> Plan:
        """Climb, keep the best."""
        with torch.inference_mode(False), torch.enable_grad():
            problem, space = problem.detached(), problem.space
            score = self._scorer(problem, self.num_samples)
            drawn = {name: value.clone() for name, value in noise.objective[0].items()}
            start = shift(carry["mean"], space.center(device=problem.device, dtype=problem.dtype))
            spread = self.init_std * noise.samples[0]
            spread[:, 0] = 0.0
            plans = space.clip(start.unsqueeze(1) + spread).detach().requires_grad_()
            optimizer = torch.optim.Adam([plans], lr=self.learning_rate)
            best, best_score = plans.detach().clone(), torch.full_like(plans[:, :, 0, 0], -torch.inf).detach()
            for step in range(self.iterations + 1):
                scores = score(plans, drawn)
                better = scores.detach() > best_score
                best = torch.where(better[:, :, None, None], plans.detach(), best)
                best_score = torch.where(better, scores.detach(), best_score)
                if step == self.iterations:
                    break
                plans.grad = _ascent(scores, plans)
                optimizer.step()
                plans.data = space.clip(plans.data)
        chosen, value = select(best, best_score, 1)
        actions = chosen[:, 0]
        carry = {"mean": actions}
        if explore:
            actions = self._explore(space, actions, noise)
        return Plan(time_major(actions), value[:, 0], carry)


def _ascent(scores: Tensor, plans: Tensor) -> Tensor:
    """Minus the gradient of each plan's score in its actions; parameters of the model get no gradient."""
    if not scores.requires_grad:
        raise ConfigurationError(
            "the objective's score has no gradient in the actions: the model's rollout or the objective detaches it. "
            "Use CEMPlanner, ICEMPlanner or MPPIPlanner, which need none"
        )
    (gradient,) = torch.autograd.grad(-scores.sum(), plans)
    return gradient.nan_to_num()
