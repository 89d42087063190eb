"""Planning faster: compiled, and in bfloat16."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

from worldflux.planners import CEMPlanner, GradientPlanner, Problem

compiles = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
# what torch's compiler itself imports and calls
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@compiles
def test_a_compiled_search_finds_the_same_plan(worlds):
    world = worlds.PointMass()
    planner = CEMPlanner(horizon=3, num_samples=16, num_elites=4, iterations=2)
    problem = Problem.of(world, world.encode(world.starts(2)))
    noise = planner.draw(problem, torch.Generator().manual_seed(0))
    before, after = (p.search(problem, noise, {}) for p in (planner, replace(planner, compiled=True)))
    assert torch.allclose(before.actions, after.actions, atol=1e-5)
    assert torch.allclose(before.score, after.score, rtol=1e-5)


def test_mixed_precision_imagines_in_bfloat16_and_plans_in_float32(worlds):
    class Linear(worlds.PointMass):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 2, bias=False)
            torch.nn.init.eye_(self.layer.weight)
            self.seen = set()

        def move(self, action):
            moved = self.layer(action)
            self.seen.add(moved.dtype)
            return moved.float()

    world = Linear()
    planner = CEMPlanner(horizon=3, num_samples=64, num_elites=8, iterations=4)
    problem = Problem.of(world, world.encode(world.starts(2)))
    noise = planner.draw(problem, torch.Generator().manual_seed(0))
    plain = planner.search(problem, noise, {})
    assert world.seen == {torch.float32}
    rough = replace(planner, mixed_precision=True).search(problem, noise, {})
    assert world.seen == {torch.float32, torch.bfloat16}
    assert rough.actions.dtype == rough.score.dtype == torch.float32
    assert not torch.equal(plain.score, rough.score)
    assert torch.allclose(plain.score, rough.score, rtol=0.01)


def test_gradients_reach_the_actions_in_mixed_precision(worlds):
    world = worlds.PointMass()
    plan = GradientPlanner(horizon=3, num_samples=2, iterations=2, mixed_precision=True).plan(
        world, world.encode(world.starts(1)), generator=torch.Generator().manual_seed(0)
    )
    assert plan.tensor.abs().sum() > 0
