"""Acting by planning: the carry is all that is remembered, row by row."""

from __future__ import annotations

import pytest
import torch

from worldflux.core.errors import ConfigurationError, ShapeMismatchError
from worldflux.core.policy import Policy
from worldflux.core.state import State
from worldflux.planners import CEMPlanner, GoalObjective, ICEMPlanner, MPPIPlanner, PlannerPolicy, make_planner

WEAK = {"horizon": 5, "num_samples": 20, "num_elites": 5, "iterations": 2}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def act(policy, obs, carry, first, explore=False):
    return policy({"obs": obs}, carry, is_first=torch.tensor(first), explore=explore)


@pytest.mark.parametrize("name", ["random", "cem", "icem", "mppi", "gradient"])
def test_a_policy_drives_the_mass_home(worlds, name):
    few = {"random": {"num_samples": 300}, "gradient": {"num_samples": 2, "iterations": 20}}
    options = few.get(name, {"num_samples": 100, "num_elites": 10, "iterations": 4})
    model = worlds.PointMass()
    policy = PlannerPolicy(model, make_planner(name, horizon=4, **options), generator=seeded())
    assert isinstance(policy, Policy)
    x, carry, start = model.starts(3), policy.initial(3), True
    for _ in range(10):
        action, carry = act(policy, x, carry, [start] * 3)
        assert action.shape == (3, 2)
        x, start = model.step(x, action)[0], False
    assert x.abs().max() < 0.3


@pytest.mark.parametrize("planner", [CEMPlanner(**WEAK, warm_start=True), ICEMPlanner(**WEAK), MPPIPlanner(**WEAK)])
def test_a_first_row_forgets_its_plan_and_only_its_own(worlds, planner):
    model = worlds.PointMass()
    x = model.starts(2)
    policy = PlannerPolicy(model, planner, generator=seeded())
    _, carry = act(policy, x, policy.initial(2), [True, True])

    def next_action(first, carry):
        return act(PlannerPolicy(model, planner, generator=seeded(1)), x, carry, first)[0]

    mixed = next_action([True, False], carry)
    torch.testing.assert_close(mixed[0], next_action([True, True], policy.initial(2))[0])
    torch.testing.assert_close(mixed[1], next_action([False, False], carry)[1])
    assert not torch.equal(mixed[0], next_action([False, False], carry)[0])


def test_the_state_is_filtered_with_the_action_that_was_done(worlds):
    """A model that sees nothing after the first row lives on its memory."""

    class Blind(worlds.PointMass):
        def update(self, state, action, obs, conditions=None, deterministic=False):
            return self.transition(state, action)

    model = Blind()
    policy = PlannerPolicy(model, CEMPlanner(horizon=4, num_samples=100, num_elites=10), generator=seeded())
    x, carry = model.starts(2), policy.initial(2)
    action, carry = act(policy, x, carry, [True, True])
    nothing = torch.full((2, 2), 7.0)
    for _ in range(4):
        x, _ = model.step(x, action)
        action, carry = act(policy, nothing, carry, [False, False])
        torch.testing.assert_close(carry["state.x"], x)
    _, carry = act(policy, nothing, carry, [False, True])
    torch.testing.assert_close(carry["state.x"][1], nothing[1])
    torch.testing.assert_close(carry["state.x"][0], model.step(x, action)[0][0])


def test_nothing_is_remembered_outside_the_carry(worlds):
    model = worlds.PointMass()
    policy = PlannerPolicy(model, MPPIPlanner(**WEAK), generator=seeded())
    _, carry = act(policy, model.starts(2), policy.initial(2), [True, True])
    kept = {name: value.clone() for name, value in carry.items()}
    act(policy, model.starts(2), carry, [False, True], explore=True)
    assert all(torch.equal(carry[name], value) for name, value in kept.items())
    assert policy.latents(carry) == policy.latent_spec == {}


def test_exploring_adds_noise(worlds):
    model = worlds.PointMass()
    planner = CEMPlanner(horizon=4, num_samples=100, num_elites=10)
    tried = {}
    for explore in (False, True):
        policy = PlannerPolicy(model, planner, generator=seeded())
        near = torch.full((500, 2), 0.01)
        tried[explore], _ = act(policy, near, policy.initial(500), [True] * 500, explore=explore)
    assert tried[False].std() < 0.1
    assert 0.25 < tried[True].std() < 0.35  # 0.3: Hafner et al. 2019


def test_the_model_draws_and_is_saved_with_its_checkpoint_unless_a_generator_is_given(worlds):
    model = worlds.PointMass()
    before = model.generator("cpu").get_state()
    own = PlannerPolicy(model, CEMPlanner(**WEAK), generator=seeded())
    act(own, model.starts(1), own.initial(1), [True], explore=True)
    assert torch.equal(model.generator("cpu").get_state(), before)
    shared = PlannerPolicy(model, CEMPlanner(**WEAK))
    act(shared, model.starts(1), shared.initial(1), [True], explore=True)
    assert not torch.equal(model.generator("cpu").get_state(), before)


def test_a_policy_with_a_goal_acts_for_it(worlds):
    model = worlds.PointMass()
    goal = model.encode({"obs": torch.tensor([[0.5, -0.5]])})
    planner = CEMPlanner(horizon=2, num_samples=100, num_elites=10)
    policy = PlannerPolicy(model, planner, GoalObjective(goal, key="x", over="sum"), generator=seeded())
    action, _ = act(policy, torch.zeros(3, 2), policy.initial(3), [True] * 3)
    torch.testing.assert_close(action, torch.tensor([[1.0, -1.0]]).expand(3, 2), atol=0.1, rtol=0)


def test_a_carry_of_other_environments_is_refused(worlds):
    policy = PlannerPolicy(worlds.PointMass(), CEMPlanner(**WEAK))
    with pytest.raises(ShapeMismatchError, match="environments of the carry .expected 3, got 2"):
        act(policy, torch.zeros(3, 2), policy.initial(2), [True] * 3)


def test_encode_and_update_are_told_whether_to_draw(worlds):
    told = []

    class Asked(worlds.PointMass):
        def encode(self, obs, deterministic=False):
            told.append(deterministic)
            return super().encode(obs)

        def update(self, state, action, obs, conditions=None, deterministic=False):
            told.append(deterministic)
            return State(dict(state.tensors))

    for deterministic, explore, expected in ((True, True, True), (False, True, False), (False, False, True)):
        told.clear()
        policy = PlannerPolicy(Asked(), CEMPlanner(**WEAK), generator=seeded(), deterministic=deterministic)
        _, carry = act(policy, torch.zeros(2, 2), policy.initial(2), [True, True], explore)
        act(policy, torch.zeros(2, 2), carry, [True, False], explore)
        assert told == [expected] * 3


@pytest.mark.parametrize(
    ("world", "name"),
    [
        *(("Valued", name) for name in ("random", "cem", "icem", "mppi", "gradient")),
        *(("GearedMass", name) for name in ("random", "cem", "icem", "mppi")),
    ],
)
def test_without_exploring_an_action_depends_on_what_was_observed_alone(worlds, world, name):
    few = {"gradient": {"num_samples": 3, "iterations": 3}, "random": {"num_samples": 20}}
    planner = make_planner(name, **few.get(name, {"num_samples": 20, "num_elites": 5, "iterations": 3}), horizon=4)
    model = getattr(worlds, world)()
    policy, x = PlannerPolicy(model, planner), model.starts(5)
    before = model.generator("cpu").get_state()

    def two_steps(which):
        _, carry = act(policy, x[which], policy.initial(len(which)), [True] * len(which))
        action, _ = act(policy, x[which] * 0.9, carry, [False] * len(which))
        return action

    together = two_steps([0, 1, 2, 3, 4])
    for which in ([0], [3], [4, 1]):
        torch.testing.assert_close(two_steps(which), together[which], rtol=1e-4, atol=1e-5)
    assert torch.equal(model.generator("cpu").get_state(), before)


def test_the_same_plan_is_not_searched_with_the_same_numbers_at_every_step(worlds):
    """What the numbers happen to favour would be favoured at every step."""
    model = worlds.PointMass()
    policy, x = PlannerPolicy(model, CEMPlanner(**WEAK)), torch.zeros(2, 2)
    carry, actions = policy.initial(2), []
    for t in range(40):
        action, carry = act(policy, x, carry, [t == 0, t in (0, 10)])
        actions.append(action)
    actions = torch.stack(actions)  # [T, 2, 2]
    assert actions[:, 0].unique(dim=0).shape[0] == 40
    assert torch.equal(actions[:10, 0], actions[:10, 1]) and torch.equal(actions[:30, 0], actions[10:, 1])
    assert actions[:, 0].mean(0).abs().max() < actions[:, 0].std(0).max()


def test_a_policy_called_as_a_function_of_observations_says_what_it_wants(worlds):
    policy = PlannerPolicy(worlds.PointMass(), CEMPlanner(**WEAK))
    with pytest.raises(ConfigurationError, match=r"PlannerPolicy keeps nothing.*agent.act"):
        policy(torch.zeros(1, 2))


class Counted(CEMPlanner):
    """Counts the plans it makes, and keeps each."""

    def search(self, problem, noise, carry, *, explore=False):
        plan = super().search(problem, noise, carry, explore=explore)
        object.__setattr__(self, "plans", [*getattr(self, "plans", []), plan])
        return plan


def test_as_many_actions_of_a_plan_are_done_as_are_to_be_executed(worlds):
    model, planner = worlds.PointMass(), Counted(**WEAK)
    policy = PlannerPolicy(model, planner, execute=3)
    carry, done = policy.initial(2), []
    for t in range(7):
        action, carry = act(policy, model.starts(2), carry, [t == 0] * 2)
        done.append(action)
    assert len(planner.plans) == 3  # at steps 0, 3 and 6
    expected = [*planner.plans[0].actions[:3], *planner.plans[1].actions[:3], planner.plans[2].actions[0]]
    torch.testing.assert_close(torch.stack(done), torch.stack(expected), rtol=0, atol=0)


@pytest.mark.parametrize("warm_start", [False, True])
def test_an_episode_that_begins_plans_anew_and_the_others_go_on_with_their_plans(worlds, warm_start):
    model, planner = worlds.PointMass(), CEMPlanner(**WEAK, warm_start=warm_start)
    policy, x = PlannerPolicy(model, planner, execute=3), model.starts(2)

    def episode(rows, begins, steps):
        carry, done = policy.initial(len(rows)), []
        for t in range(steps):
            action, carry = act(policy, x[rows] * (1 - t / 20), carry, [t == 0 or t == b for b in begins])
            done.append(action)
        return torch.stack(done)

    both = episode([0, 1], [0, 4], 9)
    torch.testing.assert_close(both[:, :1], episode([0], [0], 9))
    torch.testing.assert_close(both[:, 1:], episode([1], [4], 9))
    afresh, _ = act(policy, x[1:] * (1 - 4 / 20), policy.initial(1), [True])  # in the middle of a plan
    torch.testing.assert_close(both[4, 1:], afresh)


def test_a_warm_start_begins_where_the_plan_before_it_was_left(worlds):
    model, planner = worlds.PointMass(), CEMPlanner(**WEAK, warm_start=True)
    policy, x = PlannerPolicy(model, planner, execute=3), model.starts(1)
    _, carry = act(policy, x, policy.initial(1), [True])
    _, each = act(PlannerPolicy(model, planner), x, PlannerPolicy(model, planner).initial(1), [True])
    assert carry["plan.mean"].shape == each["plan.mean"].shape
    torch.testing.assert_close(carry["plan.mean"][:, :3], each["plan.mean"][:, 2:])  # the search itself goes one on


def test_doing_one_action_of_a_plan_carries_nothing_of_the_others(worlds):
    policy = PlannerPolicy(worlds.PointMass(), CEMPlanner(**WEAK))
    assert set(policy.initial(1)) == {"action", "step", "state.x", "state.reward"}


@pytest.mark.parametrize("execute", [0, 6, True, 2.0])
def test_more_actions_than_a_plan_has_cannot_be_executed(worlds, execute):
    with pytest.raises(ConfigurationError, match=r"execute is .*, expected 1 to 5, the actions that a plan"):
        PlannerPolicy(worlds.PointMass(), CEMPlanner(**WEAK), execute=execute)
