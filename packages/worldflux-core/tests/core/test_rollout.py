"""Imagining: transition by transition, then only what is asked for is decoded; older families overriding go through."""

import pytest
import torch

from worldflux.core.errors import ValidationError
from worldflux.core.payloads import PLANNER_HORIZON_KEY, ActionPayload, ConditionPayload
from worldflux.core.spec import Capability
from worldflux.core.state import State, stack_states
from worldflux.planners import CEMPlanner, PlannerPolicy


class Counted:
    """A decoder that counts what it is asked for."""

    def __init__(self, inner):
        self.inner, self.decoded = inner, []

    def decode(self, state, conditions=None):
        self.decoded.append((state.batch_size, conditions))
        return {**self.inner.decode(state, conditions), "obs": torch.zeros(state.batch_size, 4)}


class CountedWithArrival(Counted):
    def __init__(self, inner):
        super().__init__(inner)
        self.arrived = []

    def arrival(self, state):
        self.arrived.append(tuple(state["z"].shape))
        reward, keep = self.inner.linear(state["z"]).unbind(-1)
        return {"reward": reward, "continue": keep.sigmoid()}


@pytest.fixture
def actions():
    return torch.randn(5, 3, 2)


def test_a_rollout_is_the_transitions_one_by_one(model, actions):
    state = model.encode(torch.randn(3, 4))
    imagined = model.rollout(state, actions)
    for t, action in enumerate(actions):
        assert torch.equal(imagined.states[t]["z"], state["z"])
        state = model.transition(state, action)
        preds = model.decode(state).preds
        torch.testing.assert_close(imagined.rewards[t], preds["reward"], rtol=0, atol=1e-6)
        torch.testing.assert_close(imagined.continues[t], preds["continue"], rtol=0, atol=1e-6)
    assert torch.equal(imagined.states[-1]["z"], state["z"])


def test_a_model_that_states_no_predictions_decodes_none_and_is_rolled_out(model, actions):
    assert not model.prediction_spec().tensors
    model.decoder = None
    imagined = model.rollout(state := model.encode(torch.randn(3, 4)), actions)
    assert (model.decode(state).preds, imagined.rewards, len(imagined)) == ({}, None, 6)


def test_no_observation_is_decoded_where_the_decoder_tells_what_arriving_pays(model, actions):
    expected = model.rollout(state := model.encode(torch.randn(3, 4)), actions)
    model.set_component("decoder", part := CountedWithArrival(model.decoder))
    imagined = model.rollout(state, actions)
    assert (part.arrived, part.decoded) == ([(5, 3, 8)], [])
    torch.testing.assert_close(imagined.rewards, expected.rewards)
    torch.testing.assert_close(imagined.continues, expected.continues)


def test_another_decoder_is_asked_once_for_all_steps_and_gives_the_same(model, actions):
    expected = model.rollout(state := model.encode(torch.randn(3, 4)), actions)
    model.set_component("decoder", part := Counted(model.decoder))
    imagined = model.rollout(state, actions)
    assert part.decoded == [(15, None)]
    torch.testing.assert_close(imagined.rewards, expected.rewards)
    assert imagined.rewards.shape == imagined.continues.shape == (5, 3)


def test_a_plan_decodes_no_observation(model):
    model.set_component("decoder", part := CountedWithArrival(model.decoder))
    planner = CEMPlanner(horizon=3, num_samples=8, num_elites=2, iterations=2)
    planner.plan(model, model.encode(torch.randn(2, 4)))
    assert part.decoded == []
    assert part.arrived == [(3, 16, 8)] * 2


def test_conditions_reach_the_transition_and_the_decoder_at_each_step(model, actions):
    seen = []

    class Scaled:
        def condition(self, state, action, conditions=None):
            seen.append(conditions)
            return {"action": action * conditions.extras["wf.toy.scale"]}

    model.set_component("action_conditioner", Scaled)
    model.set_component("decoder", part := Counted(model.decoder))
    given = ConditionPayload(extras={"wf.toy.scale": torch.full((3, 1), 2.0)})
    state = model.encode(torch.randn(3, 4))
    imagined = model.rollout(state, actions, given)
    assert len(seen) == 5
    assert all(one is given for one in seen)
    assert part.decoded == [(3, given)] * 5
    twice = model.transition(state, actions[0], given)
    assert torch.equal(imagined.states[1]["z"], twice["z"])
    assert imagined.rewards.shape == (5, 3)


@pytest.mark.parametrize("plan", [None, torch.zeros(0, 3, 2)])
def test_a_horizon_of_none_pays_nothing_and_decodes_nothing(model, plan):
    model.set_component("decoder", part := Counted(model.decoder))
    imagined = model.rollout(model.encode(torch.randn(3, 4)), plan)
    assert (len(imagined), imagined.horizon) == (1, 0)
    assert imagined.rewards.shape == imagined.continues.shape == imagined.actions.shape[:2] == (0, 3)
    assert part.decoded == []


def test_what_is_not_declared_is_not_predicted(model, actions):
    model.capabilities = frozenset({Capability.LATENT_DYNAMICS, Capability.REWARD_PRED})
    imagined = model.rollout(model.encode(torch.randn(3, 4)), actions)
    assert imagined.rewards.shape == (5, 3)
    assert imagined.continues is None


def test_a_model_that_predicts_nothing_decodes_nothing(model, actions):
    model.capabilities = frozenset({Capability.LATENT_DYNAMICS})
    model.decoder = None
    imagined = model.rollout(model.encode(torch.randn(3, 4)), actions)
    assert (len(imagined), imagined.rewards, imagined.continues) == (6, None, None)


def test_one_action_serves_every_row(model):
    state, plan = model.encode(torch.randn(3, 4)), torch.randn(2, 1, 2)
    assert torch.equal(
        model.rollout(state, plan).to_tensor("z"), model.rollout(state, plan.expand(-1, 3, -1)).to_tensor("z")
    )


def test_actions_are_differentiable_through_what_arriving_pays(model, actions):
    plan = actions.clone().requires_grad_()
    model.rollout(model.encode(torch.randn(3, 4)), plan).rewards.sum().backward()
    assert plan.grad.abs().sum((1, 2)).all()


# --- families that override doors themselves, as those of before do --------------------------------


@pytest.fixture
def older(registry, toy):
    """A family that writes encode, transition and decode themselves."""

    class Older(toy["model"]):
        def encode(self, obs, deterministic=False):
            seen = self.observations(obs)
            return State({"z": self.observation_encoder.encode(seen)["z"] + 1})

        def transition(self, state, action, conditions=None, deterministic=False):
            return State({"z": state["z"] + self.actions(action).sum(-1, keepdim=True)})

        def decode(self, state, conditions=None):
            made = super().decode(state, conditions)
            made.predictions["reward"] = state["z"][:, :1]  # a column, as some give it
            made.predictions["continue"] = torch.full((state.batch_size,), 0.5)
            return made

    torch.manual_seed(0)
    return Older(toy["config"]())


def test_an_older_familys_transition_and_decode_make_its_rollouts(older, actions):
    state = older.encode(torch.randn(3, 4))
    imagined = older.rollout(state, actions)
    sums = state["z"] + actions.sum(-1).cumsum(0)[..., None]
    torch.testing.assert_close(stack_states(imagined.states[1:])["z"], sums)
    torch.testing.assert_close(imagined.rewards, sums[..., 0])
    assert torch.equal(imagined.continues, torch.full((5, 3), 0.5))


def test_an_older_familys_encode_makes_its_updates(older):
    obs = torch.randn(3, 4)
    assert torch.equal(older.update(older.initial_state(3), torch.zeros(3, 2), obs)["z"], older.encode(obs)["z"])


def test_an_older_familys_transition_is_given_each_step_checked_actions(older):
    index = torch.zeros(2, 3, 2, dtype=torch.float64)
    assert older.rollout(older.encode(torch.randn(3, 4)), index).states[-1]["z"].dtype == torch.float32


def test_an_older_executor_that_calls_the_doors_goes_on(model, actions):
    from worldflux.core.trajectory import Trajectory

    class Executor:
        def rollout_open_loop(self, model, initial_state, action_sequence, conditions=None, deterministic=False):
            states, rewards = [initial_state], []
            for action in action_sequence:
                states.append(model.transition(states[-1], action, conditions, deterministic))
                rewards.append(model.decode(states[-1], conditions).preds["reward"])
            return Trajectory(states, action_sequence, rewards=torch.stack(rewards))

    state = model.encode(torch.randn(3, 4))
    expected = model.rollout(state, actions)
    model.set_component("rollout_executor", Executor)
    imagined = model.rollout(state, actions)
    assert torch.equal(imagined.to_tensor("z"), expected.to_tensor("z"))
    torch.testing.assert_close(imagined.rewards, expected.rewards, rtol=0, atol=1e-6)


# --- acting by planning ----------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", ["tensor", "dict", "input"])
def test_a_planned_policy_takes_observations_in_every_form(model, wrap):
    from worldflux.core.payloads import WorldModelInput

    obs = torch.randn(2, 4)
    forms = {"tensor": obs, "dict": {"obs": obs}, "input": WorldModelInput({"obs": obs})}
    policy = PlannerPolicy(model, CEMPlanner(horizon=2, num_samples=4, num_elites=2, iterations=1))
    first = torch.tensor([True, False])
    action, carry = policy(forms["dict"], policy.initial(2), is_first=first, explore=False)
    other, _ = policy(forms[wrap], policy.initial(2), is_first=first, explore=False)
    assert torch.equal(action, other)
    again, _ = policy(forms[wrap], carry, is_first=torch.zeros(2, dtype=torch.bool), explore=False)
    assert again.shape == (2, 2)


@pytest.mark.parametrize("plan", [(), "left", 3, [torch.zeros(3, 2)]], ids=["tuple", "text", "number", "list"])
def test_what_is_no_plan_is_refused_by_its_kind(model, plan):
    with pytest.raises(ValidationError, match=f"must be a Tensor or an ActionPayload, got {type(plan).__name__}"):
        model.rollout(model.encode(torch.randn(3, 4)), plan)


@pytest.mark.parametrize("extras", [{}, {"wf.toy.scale": torch.ones(3, 1)}], ids=["bare", "conditions"])
def test_what_is_done_at_every_step_compiles_whole(model, actions, extras):
    def dream(obs, actions):
        given = ConditionPayload(extras=extras)
        state = model.transition(model.encode(obs, deterministic=True), actions[0], given, deterministic=True)
        plan = ActionPayload("continuous", actions, extras={PLANNER_HORIZON_KEY: 5})
        return model.rollout(state, plan, given, deterministic=True).rewards, model.decode(state).preds

    obs = torch.randn(3, 4)
    dream(obs, actions)  # the contract is put together once, before
    torch.compile(dream, backend="eager", fullgraph=True)(obs, actions)
