"""Rows do not mix, draws are explicit, warm starts are what they say."""

from __future__ import annotations

from operator import itemgetter

import pytest
import torch

from worldflux.core.errors import ShapeMismatchError
from worldflux.core.payloads import PLANNER_HORIZON_KEY, normalize_planned_action
from worldflux.planners import (
    PLANNER_CARRY_KEY,
    PLANNER_SCORE_KEY,
    CEMPlanner,
    MPPIPlanner,
    Problem,
    RewardObjective,
    first_action,
    make_planner,
)
from worldflux.planners.elites import shift
from worldflux.planners.noise import coloring

SMALL = {
    "random": {"horizon": 5, "num_samples": 20},
    "cem": {"horizon": 5, "num_samples": 20, "num_elites": 5, "iterations": 3, "warm_start": True, "momentum": 0.2},
    "icem": {"horizon": 5, "num_samples": 20, "num_elites": 5, "iterations": 3, "reuse": 0.5},
    "mppi": {"horizon": 5, "num_samples": 20, "num_elites": 5, "iterations": 3},
    "gradient": {"horizon": 5, "num_samples": 3, "iterations": 3},
}
CONTINUOUS = ["PointMass", "Valued"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def cases(*names):
    mixed = [name for name in SMALL if name != "gradient"]
    return [(world, name) for world in CONTINUOUS for name in SMALL if not names or name in names] + [
        (world, name) for world in ("SteppingMass", "GearedMass") for name in mixed if not names or name in names
    ]


def problem_of(worlds, world, num_envs=4):
    model = getattr(worlds, world)()
    return Problem.of(model, model.encode({"obs": model.starts(num_envs)}))


def warm(planner, problem, seed=3):
    """A warm start that something was learnt in."""
    return planner.solve(problem, generator=seeded(seed)).carry


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize(("world", "name"), cases())
def test_an_environment_alone_gets_the_plan_it_gets_among_others(worlds, world, name, explore):
    planner, problem = make_planner(name, **SMALL[name]), problem_of(worlds, world)
    noise, carry = planner.draw(problem, seeded()), warm(planner, problem)
    together = planner.search(problem, noise, carry, explore=explore)
    for which in ([0], [2], [3, 1]):
        part = Problem.of(problem.model, problem.state.map(itemgetter(which)))
        drawn, start = worlds.rows(noise, which, 4), {key: value[which] for key, value in carry.items()}
        alone = planner.search(part, drawn, start, explore=explore)
        torch.testing.assert_close(alone.actions, together.actions[:, which], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.score, together.score[which], rtol=1e-4, atol=1e-5)
        for key, value in alone.carry.items():
            torch.testing.assert_close(value, together.carry[key][which], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("world", "name"), cases())
def test_same_generator_same_plan_and_no_other_randomness_is_touched(worlds, world, name):
    planner, problem = make_planner(name, **SMALL[name]), problem_of(worlds, world)
    before, own = torch.get_rng_state(), problem.model.generator("cpu").get_state()
    plans = [planner.solve(problem, generator=seeded(seed), explore=True).actions for seed in (1, 1, 2)]
    assert torch.equal(plans[0], plans[1])
    assert not torch.equal(plans[0], plans[2])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(problem.model.generator("cpu").get_state(), own)


@pytest.mark.parametrize(("world", "name"), cases())
def test_a_search_draws_nothing(worlds, world, name):
    planner, problem = make_planner(name, **SMALL[name]), problem_of(worlds, world)
    noise, carry = planner.draw(problem, seeded()), warm(planner, problem)
    first, second = (planner.search(problem, noise, carry, explore=True) for _ in range(2))
    assert torch.equal(first.actions, second.actions)


def test_the_model_draws_where_none_is_given_a_generator(worlds):
    planner, problem = CEMPlanner(**SMALL["cem"]), problem_of(worlds, "PointMass")
    problem.model.seed(5)
    first, second = (planner.solve(problem).actions for _ in range(2))
    problem.model.seed(5)
    assert torch.equal(planner.solve(problem).actions, first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("world", "name"), cases())
def test_plan_is_a_payload_that_the_model_rolls_out(worlds, world, name):
    model = getattr(worlds, world)()
    state = model.encode({"obs": model.starts(3)})
    payload = make_planner(name, **SMALL[name]).plan(model, state, RewardObjective(discount=1.0, terminal=False))
    assert type(payload.extras[PLANNER_HORIZON_KEY]) is int
    assert payload.extras[PLANNER_HORIZON_KEY] == 5
    assert payload.extras[PLANNER_SCORE_KEY].shape == (3,)
    assert normalize_planned_action(payload).tensor.shape == (5, 3, model.config.action_dim)
    assert first_action(payload).tensor.shape == (3, model.config.action_dim)
    imagined = model.rollout(state, payload)
    assert imagined.rewards.shape == (5, 3)
    for part, where in model.config.actions.slices():
        block = payload.tensor[..., where]
        if part.kind == "discrete":
            assert torch.equal(block.sum(-1), torch.ones(5, 3))
            assert ((block == 0) | (block == 1)).all()
        else:
            assert block.abs().max() <= 1


def test_a_plan_of_one_step_is_a_payload_too(worlds):
    model = worlds.PointMass()
    payload = CEMPlanner(horizon=1, num_samples=8, num_elites=2).plan(model, model.encode({"obs": model.starts(3)}))
    assert model.rollout(model.encode({"obs": model.starts(3)}), payload).horizon == 1


@pytest.mark.parametrize(
    ("world", "name"),
    [
        *(("PointMass", name) for name in ("cem", "icem", "mppi", "gradient")),
        *(("SteppingMass", name) for name in ("cem", "icem", "mppi")),
    ],
)
def test_a_warm_start_plans_better_than_a_cold_one(worlds, world, name):
    """The plan of one step ago is a good beginning: with a tiny budget, it shows."""
    rich = {"gradient": {"num_samples": 8, "iterations": 40}}.get(name, {"num_samples": 200, "iterations": 12})
    planner, strong = make_planner(name, **SMALL[name]), make_planner(name, **{**SMALL[name], **rich})
    problem = problem_of(worlds, world, 8)
    plan = strong.solve(problem, generator=seeded(1))
    after = Problem.of(problem.model, problem.model.transition(problem.state, plan.actions[0]))
    cold = planner.initial(after.space, 8, device=after.device, dtype=after.dtype)
    gains = []
    for seed in range(10):
        noise = planner.draw(after, seeded(seed))
        gains.append(planner.search(after, noise, plan.carry).score - planner.search(after, noise, cold).score)
    assert torch.stack(gains).mean() > 0.005


def test_payload_carries_the_warm_start(worlds):
    model = worlds.PointMass()
    planner, state = MPPIPlanner(**SMALL["mppi"]), model.encode({"obs": model.starts(2)})
    carry = planner.plan(model, state).extras[PLANNER_CARRY_KEY]
    again = [planner.plan(model, state, carry=start, generator=seeded()).tensor for start in (carry, None)]
    assert not torch.equal(*again)
    with pytest.raises(ShapeMismatchError, match="warm start 'mean'"):
        planner.plan(model, model.encode({"obs": model.starts(3)}), carry=carry)


@pytest.mark.parametrize(("world", "name"), cases())
def test_exploring_changes_the_first_action_alone(worlds, world, name):
    planner, problem = make_planner(name, **SMALL[name]), problem_of(worlds, world, 256)
    noise = planner.draw(problem, seeded())
    start = planner.initial(problem.space, 256, device=problem.device, dtype=problem.dtype)
    best, tried = (planner.search(problem, noise, start, explore=explore).actions for explore in (False, True))
    assert torch.equal(best[1:], tried[1:])
    changed = (best[0] != tried[0]).any(-1).float().mean()
    assert changed > (0.015 if world == "SteppingMass" else 0.5)
    assert tried.abs().max() <= 1


def test_a_shifted_plan_forgets_what_is_done():
    plan = torch.arange(3.0).reshape(1, 3, 1)
    assert shift(plan, torch.tensor([9.0])).flatten().tolist() == [1.0, 2.0, 9.0]


def test_colored_noise_has_variance_one_and_the_spectrum_asked_for():
    white = torch.randn(20_000, 16, generator=seeded())
    for exponent in (0.0, 1.0, 3.0):
        colored = white @ coloring(16, exponent, device=white.device, dtype=white.dtype)
        torch.testing.assert_close(colored.var(0), torch.ones(16), rtol=0.06, atol=0)
        power = torch.fft.rfft(colored).abs().square().mean(0)
        torch.testing.assert_close(power[2] / power[4], torch.tensor(2.0**exponent), rtol=0.08, atol=0)
    torch.testing.assert_close(coloring(1, 2.0, device=white.device, dtype=white.dtype), torch.ones(1, 1))


def test_icem_keeps_the_best_plan_it_has_seen(worlds):
    """More iterations never make the plan worse: elites stay in the race."""
    problem = problem_of(worlds, "PointMass", 8)
    scores = []
    for iterations in (1, 2, 4, 8):
        options = {**SMALL["icem"], "iterations": iterations, "momentum": 0.9}
        planner = make_planner("icem", **options)
        full = make_planner("icem", **{**options, "iterations": 8}).draw(problem, seeded())
        full.samples, full.objective = full.samples[:iterations], full.objective[:iterations]
        start = planner.initial(problem.space, 8, device=problem.device, dtype=problem.dtype)
        scores.append(planner.search(problem, full, start).score)
    assert all((b >= a - 1e-6).all() for a, b in zip(scores, scores[1:]))


def test_icem_population_decays_to_twice_the_elites():
    planner = make_planner("icem", num_samples=100, num_elites=20, iterations=6, decay=2.0)
    assert planner.populations == [100, 50, 40, 40, 40, 40]


def test_mppi_is_the_published_update_step_by_step(worlds):
    """One environment, spelled out: Hansen et al. 2024 §3.2, with proposals, a value and an end of the episode."""
    model = worlds.Valued()
    state = model.encode({"obs": torch.tensor([[0.5, -0.4]])})
    planner = MPPIPlanner(horizon=4, num_samples=12, num_elites=5, num_proposals=3, iterations=2)
    problem = Problem.of(model, state, RewardObjective(discount=0.9, continues="hard"))
    noise, previous = planner.draw(problem, seeded()), torch.randn(1, 4, 2, generator=seeded(1)) * 0.3
    plan = planner.search(problem, noise, {"mean": previous}, explore=True)

    proposals = model.propose(state.map(lambda v: v.repeat_interleave(3, 0)), 4, noise.proposals)
    mean, std = torch.cat([previous[0, 1:], torch.zeros(1, 2)]), torch.full((4, 2), 2.0)
    for samples, drawn in zip(noise.samples, noise.objective):
        candidates = [*proposals.unbind(1), *(mean + std * samples[0]).clamp(-1, 1)]
        values = []
        for n, candidate in enumerate(candidates):
            x, value, weight = state["x"], 0.0, 1.0
            for action in candidate:
                x, reward = model.step(x, action[None])
                value, weight = value + weight * reward.item(), weight * 0.9
                weight *= float(torch.exp(-x.square().sum()) >= 0.5)
            values.append(value + weight * (-3 * x.square().sum() + 0.1 * drawn["eps"][n]).item())
        order = sorted(range(12), key=lambda n: -values[n])[:5]
        weights = torch.tensor([0.5 * (values[n] - values[order[0]]) for n in order]).exp()
        weights = (weights / weights.sum())[:, None, None]
        elites = torch.stack([candidates[n] for n in order])
        mean = (weights * elites).sum(0)
        std = (weights * (elites - mean).square()).sum(0).sqrt().clamp(0.05, 2.0)
    chosen = elites[(weights.flatten().log() + noise.choice[0]).argmax()].clone()
    chosen[0] = (chosen[0] + std[0] * noise.explore[0]).clamp(-1, 1)
    torch.testing.assert_close(plan.actions[:, 0], chosen)
    torch.testing.assert_close(plan.carry["mean"][0], mean)


def test_unused_entries_of_a_task_stay_zero(worlds):
    class TwoTasks(worlds.PointMass):
        def action_mask(self, state):
            return (torch.arange(2) <= (state["x"][:, :1] > 0)).float()  # the second axis only where x0 is positive

    model = TwoTasks()
    state = model.encode({"obs": torch.tensor([[1.0, 1.0], [-1.0, 1.0]])})
    for name, options in SMALL.items():
        plan = make_planner(name, **options).solve(Problem.of(model, state), explore=True)
        assert (plan.actions[:, 1, 1] == 0).all(), name
        assert (plan.actions[:, 0, 1] != 0).any(), name


def test_gradient_planning_leaves_parameters_without_gradient_and_runs_in_inference_mode(worlds):
    model = worlds.Valued()
    planner = make_planner("gradient", **SMALL["gradient"])
    with torch.inference_mode():
        state = model.encode({"obs": model.starts(2)})
        payload = planner.plan(model, state, generator=seeded())
    assert model.weight.grad is None
    normal = planner.plan(model, model.encode({"obs": model.starts(2)}), generator=seeded())
    torch.testing.assert_close(payload.tensor, normal.tensor)
    assert not normal.tensor.requires_grad
