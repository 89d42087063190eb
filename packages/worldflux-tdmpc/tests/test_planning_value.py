"""What the families offer a planner can be differentiated: gradient planning climbs the score it is told of."""

from __future__ import annotations

import pytest
import torch

import worldflux
from worldflux.planners import Problem, RewardObjective


@pytest.mark.parametrize("preset", ["tdmpc2:ci", "mbpo:ci"])
def test_the_gradient_of_a_plans_score_is_that_of_finite_differences(preset):
    model = worldflux.create_world_model(preset, obs_shape=(3,), action_dim=2).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # heads begin as zeros
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    state = model.encode(torch.randn(1, 3, generator=generator), deterministic=True)
    objective = RewardObjective(discount=0.9)
    problem = Problem.of(model, state, objective)
    noise = objective.noise(model, 1, generator=generator, device=torch.device("cpu"))

    def score(plan):
        return problem.scorer(1)(plan, noise).sum()

    plan = (torch.rand(1, 1, 3, 2, generator=generator) - 0.5).requires_grad_()
    (gradient,) = torch.autograd.grad(score(plan), plan)
    uphill, step = gradient / gradient.norm(), 1e-2
    with torch.no_grad():
        slope = (score(plan + step * uphill) - score(plan - step * uphill)) / (2 * step)
    assert float(slope) == pytest.approx(float(gradient.norm()), rel=0.01)
