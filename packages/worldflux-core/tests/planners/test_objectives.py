"""An objective says what is good, and rewards count as the model says the episode goes on."""

from __future__ import annotations

import pytest
import torch

from worldflux.core.errors import ConfigurationError, ShapeMismatchError
from worldflux.core.payloads import ConditionPayload
from worldflux.core.spec import ConditionSpec, vector
from worldflux.core.state import State
from worldflux.core.trajectory import Trajectory
from worldflux.planners import CEMPlanner, GoalObjective, GradientPlanner, Problem, RewardObjective, StateGoal

PLANNER = CEMPlanner(horizon=6, num_samples=200, num_elites=20, iterations=8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def trajectory(rewards, continues=None):
    rewards = torch.tensor(rewards)[:, None]
    states = [State({"x": torch.full((1, 2), float(t))}) for t in range(len(rewards) + 1)]
    continues = None if continues is None else torch.tensor(continues)[:, None]
    return Trajectory(states, torch.zeros(len(rewards), 1, 2), rewards=rewards, continues=continues)


@pytest.mark.parametrize(
    ("continues", "expected"),
    [
        ("ignore", 1 + 0.5 * 10 + 0.25 * 100),
        ("soft", 1 + 0.5 * 0.8 * 10 + 0.25 * 0.8 * 0.4 * 100),
        ("hard", 1 + 0.5 * 10),  # the second state ends it: 0.4 < 0.5
    ],
)
def test_rewards_are_discounted_and_count_as_far_as_the_episode_goes(worlds, continues, expected):
    imagined = trajectory([1.0, 10.0, 100.0], [0.8, 0.4, 0.9])
    score = RewardObjective(discount=0.5, continues=continues).score(worlds.PointMass(), imagined, {})
    torch.testing.assert_close(score, torch.tensor([expected]))


def test_the_last_state_counts_with_its_value_if_the_model_offers_one(worlds):
    model, imagined, noise = worlds.Valued(), trajectory([1.0, 10.0]), {"eps": torch.zeros(1)}
    value = -3.0 * 8.0
    for terminal, expected in ((True, 1 + 5 + 0.25 * value), (False, 6.0)):
        objective = RewardObjective(discount=0.5, terminal=terminal)
        torch.testing.assert_close(objective.score(model, imagined, noise), torch.tensor([expected]))
    assert RewardObjective(terminal=False).noise(model, 3, generator=seeded(), device=torch.device("cpu")) == {}


def test_a_discount_may_depend_on_the_task(worlds):
    objective = RewardObjective(discount=lambda state: state["x"][:, 0] + 0.5)
    torch.testing.assert_close(objective.score(worlds.PointMass(), trajectory([1.0, 10.0]), {}), torch.tensor([6.0]))


@pytest.mark.parametrize("energy", ["l1", "l2", lambda latent, goal: (latent - goal).square().sum(-1)])
def test_each_environment_is_planned_to_its_own_goal(worlds, energy):
    model = worlds.PointMass()
    state = model.encode({"obs": torch.zeros(3, 2)})
    goals = torch.tensor([[1.0, 0.0], [-0.5, 0.5], [0.0, -1.2]])
    objective = GoalObjective(model.encode({"obs": goals}), key="x", energy=energy)
    payload = PLANNER.plan(model, state, objective, generator=seeded())
    reached = model.rollout(state, payload).states[-1]["x"]
    torch.testing.assert_close(reached, goals, atol=0.1, rtol=0)


def test_summed_energy_makes_haste(worlds):
    model = worlds.PointMass()
    state, goal = model.encode({"obs": torch.zeros(1, 2)}), model.encode({"obs": torch.full((1, 2), 0.5)})
    paths = {}
    for over in ("last", "sum"):
        payload = PLANNER.plan(model, state, GoalObjective(goal, key="x", over=over), generator=seeded())
        paths[over] = model.rollout(state, payload).to_tensor("x")
    assert (paths["sum"][2] - 0.5).abs().max() < 0.15  # two steps at full speed
    assert (paths["last"][2] - 0.5).abs().max() > 0.15


def test_a_number_says_what_a_state_counts_of_what_the_next_one_counts(worlds):
    model = worlds.PointMass()
    state, goal = model.encode({"obs": torch.zeros(1, 2)}), model.encode({"obs": torch.full((1, 2), 0.5)})
    ahead = model.rollout(state, torch.tensor([[[1.0, 0.0]], [[0.0, -1.0]], [[1.0, 1.0]]]))
    for objective in (
        lambda over: GoalObjective(goal, key="x", over=over),
        lambda over: StateGoal(goal["x"][0], lambda given: given["x"], over=over),
    ):
        first, second, third = (objective("last").energy_of(one) for one in ahead.states[1:])
        score = {over: objective(over).score(model, ahead, {}) for over in ("last", "sum", 0.0, 0.5, 1.0)}
        assert torch.allclose(-score[0.5], 0.25 * first + 0.5 * second + third)
        assert torch.equal(score[0.0], score["last"]) and torch.equal(score[1.0], score["sum"])


def test_a_function_is_an_objective(worlds):
    class Unpaid(worlds.PointMass):
        capabilities = frozenset()

    model = Unpaid()
    state = model.encode({"obs": torch.zeros(2, 2)})
    payload = PLANNER.plan(model, state, lambda model, imagined: imagined.states[-1]["x"].sum(-1), generator=seeded())
    assert model.rollout(state, payload).states[-1]["x"].min() > 1.4  # six steps of 0.25


def test_conditions_reach_every_candidate_of_their_environment(worlds):
    class Windy(worlds.PointMass):
        def condition_spec(self):
            return ConditionSpec({"goal": vector(2), "text_condition": vector()})

        def transition(self, state, action, conditions=None, deterministic=False):
            assert conditions.goal.shape[0] == state.batch_size
            assert len(conditions.text_condition) == state.batch_size
            ahead = super().transition(state, action)
            x = ahead["x"] + conditions.goal
            return State({"x": x, "reward": -x.square().sum(-1)})

    model = Windy()
    wind = torch.tensor([[0.2, 0.0], [0.0, -0.2]])
    payload = PLANNER.plan(
        model,
        model.encode({"obs": torch.zeros(2, 2)}),
        conditions=ConditionPayload(goal=wind, text_condition=["east", "south"]),
        generator=seeded(),
    )
    torch.testing.assert_close(payload.tensor[0], -wind / 0.25, atol=0.1, rtol=0)


def test_imagining_may_draw_outcomes_from_the_model(worlds):
    class Dice(worlds.PointMass):
        def transition(self, state, action, conditions=None, deterministic=False):
            ahead = super().transition(state, action)
            if not deterministic:
                ahead.tensors["reward"] = torch.randn(ahead.batch_size, generator=self.generator("cpu"))
            return ahead

    model = Dice()
    state = model.encode({"obs": model.starts(1)})
    for deterministic in (True, False):
        before = model.generator("cpu").get_state()
        PLANNER.plan(model, state, generator=seeded(), deterministic=deterministic)
        assert torch.equal(model.generator("cpu").get_state(), before) is deterministic


def test_a_plan_that_breaks_the_model_is_the_worst(worlds):
    model = worlds.PointMass()
    state = model.encode({"obs": torch.zeros(1, 2)})

    def broken_to_the_right(model, imagined):
        x = imagined.states[-1]["x"][:, 0]
        return torch.where(x > 0, torch.nan, x)

    for planner in (PLANNER, GradientPlanner(horizon=4)):
        plan = planner.solve(Problem.of(model, state, broken_to_the_right), generator=seeded())
        assert plan.score.isfinite().all()
        assert model.rollout(state, plan.actions).states[-1]["x"][0, 0] <= 0


def test_scores_of_another_shape_are_refused(worlds):
    model = worlds.PointMass()
    state = model.encode({"obs": torch.zeros(2, 2)})
    for wrong in (lambda model, imagined: imagined.rewards, lambda model, imagined: 1.0):
        with pytest.raises(ShapeMismatchError, match="scores of the objective"):
            PLANNER.plan(model, state, wrong)


def test_bad_objectives_are_named(worlds):
    state = State({"x": torch.zeros(1, 2), "reward": torch.zeros(1)})
    for wrong, message in (
        (lambda: RewardObjective(discount=1.5), r"discount must lie in \[0, 1\], got 1.5"),
        (lambda: RewardObjective(continues="sofd"), "Did you mean 'soft'"),
        (lambda: RewardObjective(continues=True), "continues must be one of"),
        (lambda: RewardObjective(discount="0.9"), "discount must lie in"),
        (lambda: GoalObjective(torch.zeros(2)), "use model.encode"),
        (lambda: GoalObjective(state), "say which one to compare with key="),
        (lambda: GoalObjective(state, key="xs"), "Did you mean 'x'"),
        (lambda: GoalObjective(state, key="x", energy="l3"), "energy must be one of"),
        (lambda: GoalObjective(state, key="x", over="first"), "over must be 'last', 'sum', or a number from 0 to 1"),
        (lambda: GoalObjective(state, key="x", over=1.5), "over must be .*, got 1.5"),
        (lambda: StateGoal(torch.zeros(2), len, over=True), "over must be .*, got True"),
        (lambda: Problem.of(worlds.PointMass(), state, RewardObjective), "is a class"),
        (lambda: Problem.of(worlds.PointMass(), state, "reward"), "an objective is RewardObjective"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            wrong()


def test_goals_of_another_number_than_environments_are_refused(worlds):
    model, few = worlds.PointMass(), CEMPlanner(num_samples=5, num_elites=2)
    two, three = (model.encode({"obs": torch.zeros(count, 2)}) for count in (2, 3))
    with pytest.raises(ShapeMismatchError, match="one per environment"):
        few.plan(model, two, GoalObjective(three, key="x"))
    with pytest.raises(ShapeMismatchError, match="expected 1 or 3, got 2"):
        CEMPlanner(num_samples=20, num_elites=2).plan(model, three, GoalObjective(two, key="x"))  # 2 divides 3 * 20


def test_goals_of_another_size_are_refused(worlds):
    model = worlds.PointMass()
    state = model.encode({"obs": torch.zeros(2, 2)})
    goal = state.map(lambda value: torch.zeros(1, 5))
    with pytest.raises(ShapeMismatchError, match="encode it with this model"):
        CEMPlanner(num_samples=5, num_elites=2).plan(model, state, GoalObjective(goal, key="x"))
