"""Acting in one line: observations as an environment gives them, actions as it takes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium")

from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from gymnasium.vector.utils import batch_space

from worldflux.core.errors import CapabilityError, ConfigurationError, ShapeMismatchError, ValidationError
from worldflux.envs import RandomPolicy
from worldflux.envs.spaces import ActionAdapter, ObservationAdapter

PLACE = Box(-1, 1, (3,), np.float32)
ACTIONS = {
    "number": Discrete(4, start=2),
    "box": Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32)),
    "binary": MultiBinary(3),
    "several": MultiDiscrete([2, 3], start=[1, 5]),
    "dict": Dict({"arm": Box(-3, 3, (2,), np.float32), "grip": Discrete(3, start=-1)}),
    "tuple": Tuple((Discrete(2), Dict({"turn": Box(0, 1, (), np.float32)}))),
}


def agent_in(actor, observation=PLACE, action=ACTIONS["number"], *, options=None, **about):
    """An agent in an environment with these spaces, for a model that fits it."""
    seen, done = ObservationAdapter(observation).spec, ActionAdapter(action).spec
    model = actor(observation_modalities=options or dict(seen), action_spec=vars(done))
    return model.agent((observation, action), **about)


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_an_action_is_the_environments_own(actor, action):
    agent = agent_in(actor, action=action, policy=None)
    for seed in range(3):
        agent.policy.generator.manual_seed(seed)
        assert action.contains(agent.act(np.zeros(3, np.float32)))


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_actions_of_a_batch_are_as_vector_environments_take_them(actor, action):
    agent = agent_in(actor, action=action)
    assert batch_space(action, 5).contains(agent.act(np.zeros((5, 3), np.float32)))


def test_continuous_actions_are_scaled_to_their_bounds(actor):
    agent = agent_in(actor, action=ACTIONS["box"])
    agent.policy.answer = [-0.5, 1.0]
    assert agent.act(np.zeros(3)).tolist() == [-1.0, 10.0]


def test_a_discrete_action_is_an_int_from_where_its_space_starts(actor):
    agent = agent_in(actor)
    agent.policy.answer = [0, 0, 1, 0]
    assert type(agent.act(np.zeros(3))) is int
    assert agent.act(np.zeros(3)) == 4
    agent.reset()
    assert agent.act(np.zeros((2, 3))).tolist() == [4, 4]


@pytest.mark.parametrize(
    ("spec", "answer", "action"),
    [
        ({"kind": "discrete", "dim": 3}, [0, 1, 0], 1),
        ({"kind": "continuous", "dim": 2}, [-0.5, 2.0], [-0.5, 1.0]),
        (
            {"kind": "multi", "parts": [{"name": "a", "kind": "discrete", "dim": 2},
                                        {"name": "b", "kind": "continuous", "dim": 1}]},
            [0, 1, 0.5], {"a": 1, "b": [0.5]},
        ),
    ],
    ids=["discrete", "continuous", "multi"],
)  # fmt: skip
def test_without_an_environment_actions_are_in_the_models_terms(actor, spec, answer, action):
    agent = actor(obs_shape=(3,), action_spec=spec).agent()
    agent.policy.answer = answer
    done = agent.act(np.zeros(3))
    if isinstance(action, dict):
        assert done.keys() == action.keys()
        assert all(np.array_equal(done[name], action[name]) for name in action)
    else:
        assert np.array_equal(done, action)


# --- what is observed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [[0, 1, 2], np.array([0.0, 1, 2]), torch.tensor([0.0, 1, 2], dtype=torch.bfloat16), {"obs": np.arange(3)}],
    ids=["list", "float64", "tensor", "by name"],
)
def test_an_observation_comes_in_any_form(actor, given):
    agent = agent_in(actor)
    agent.act(given)
    assert agent.policy.seen[-1]["obs"]["obs"].tolist() == [[0.0, 1.0, 2.0]]


def test_nested_observations_come_one_by_one_in_a_list_or_as_a_batch(actor):
    space = Dict({"eyes": Box(0, 255, (8, 8, 3), np.uint8), "mood": Discrete(3, start=1), "at": Tuple((PLACE, PLACE))})
    rows = [space.sample() for _ in range(2)]
    agent = agent_in(actor, space)
    shown = ObservationAdapter(space)(rows)
    batch = {
        "eyes": np.stack([row["eyes"] for row in rows]),
        "mood": np.array([row["mood"] for row in rows]),
        "at": tuple(np.stack([row["at"][i] for row in rows]) for i in (0, 1)),
    }
    for given, want in ((rows[0], slice(1)), (rows, slice(2)), (batch, slice(2))):
        agent.reset()
        agent.act(given)
        for name, value in agent.policy.seen[-1]["obs"].items():
            assert np.array_equal(value.numpy(), shown[name][want]), name


def test_pictures_with_the_channels_last_are_turned_as_in_training(actor):
    space = Box(0, 255, (6, 8, 3), np.uint8)
    picture = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    for agent in (agent_in(actor, space), actor(obs_shape=(3, 6, 8), action_dim=2).agent()):
        agent.act(picture)
        assert np.array_equal(agent.policy.seen[-1]["obs"]["obs"][0].numpy(), picture.transpose(2, 0, 1))


def test_pictures_are_resized_and_stacked_as_in_training(actor):
    model = actor(obs_shape=(6, 8, 8), action_dim=2)
    agent = model.agent((PLACE, Box(-1, 1, (2,))), render_size=8, frame_stack=2)  # rendered, in place of the place
    bright, dark = (np.full((20, 30, 3), value, np.uint8) for value in (200, 10))
    for picture, frames in ((bright, [200, 200]), (dark, [200, 10]), (dark, [10, 10])):
        agent.act(picture)
        shown = agent.policy.seen[-1]["obs"]["obs"][0]
        assert shown.shape == (6, 8, 8)
        assert [int(shown[0].unique()), int(shown[3].unique())] == frames
    agent.reset()
    agent.act(bright)
    assert agent.policy.seen[-1]["obs"]["obs"].unique().tolist() == [200]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros(4), r"expected .*\(3,\), or \('N', 3\) for a batch.*got \(4,\)"),
        (np.zeros((2, 2, 3)), "for a batch"),
        (0.0, "for a batch"),
        (np.full(3, np.nan), "not finite"),
        ([[1, 2, 3], [4]], "no array of numbers"),
        ("left", "expected numbers"),
        (None, "expected numbers"),
        ({"eyes": np.zeros(3)}, "expected numbers"),
        (np.zeros((0, 3)), "the same number in each"),
    ],
)
def test_what_is_no_observation_is_refused_and_nothing_is_remembered(actor, given, message):
    agent = agent_in(actor)
    agent.act(np.zeros(3))
    with pytest.raises((ShapeMismatchError, ValidationError), match=message):
        agent.act(given)
    agent.act(np.zeros(3))
    assert agent.policy.seen[-1]["steps"] == [2]


def test_a_missing_part_is_named(actor):
    agent = agent_in(actor, Dict({"eyes": PLACE, "ears": PLACE}))
    with pytest.raises(ValidationError, match=r"has no 'eyes', it has \['eye', 'ears'\]. Did you mean 'eye'"):
        agent.act({"eye": np.zeros(3), "ears": np.zeros(3)})


# --- episodes -------------------------------------------------------------------------------------------------------


def test_the_first_observation_after_a_reset_begins_an_episode(actor):
    agent = agent_in(actor)
    for begins in (True, False, False, True, False):
        if begins:
            agent.reset()
        agent.act(np.zeros(3))
    assert [one["steps"] for one in agent.policy.seen] == [[1], [2], [3], [1], [2]]


def test_a_mask_begins_some_episodes_of_a_batch_anew(actor):
    agent = agent_in(actor)
    agent.act(np.zeros((3, 3)))
    agent.reset(np.array([False, True, False]))
    agent.act(np.zeros((3, 3)))
    agent.reset([True, False, False])
    agent.act(np.zeros((3, 3)))
    assert [one["steps"] for one in agent.policy.seen] == [[1, 1, 1], [2, 1, 2], [1, 2, 3]]


def test_another_number_of_episodes_needs_a_reset(actor):
    agent = agent_in(actor)
    agent.act(np.zeros((3, 3)))
    with pytest.raises(ShapeMismatchError, match="begins with another number"):
        agent.act(np.zeros((2, 3)))
    with pytest.raises(ShapeMismatchError, match="mask"):
        agent.reset(np.array([True, False]))
    with pytest.raises(ValidationError, match="one truth value for each"):
        agent.reset([0, 1, 2])
    agent.reset()
    agent.act(np.zeros((2, 3)))


def test_the_same_seed_acts_the_same_and_nothing_else_is_drawn(actor):
    model = actor(obs_shape=(3,), action_dim=2)
    before = torch.get_rng_state()
    actions = [[model.agent(seed=seed).act(np.zeros(3)) for _ in range(2)] for seed in (0, 0, 1)]
    assert np.array_equal(actions[0], actions[1])
    assert not np.array_equal(actions[0], actions[2])
    assert torch.equal(before, torch.get_rng_state())


def test_what_the_model_draws_follows_the_agents_seed_and_is_drawn_from_nobody_else(actor):
    model = actor(obs_shape=(3,), action_dim=2, seed=5)
    drawing = lambda **_: RandomModel(model)
    other = [torch.rand(2, generator=actor(obs_shape=(3,), action_dim=2, seed=5).generator())]
    actions = []
    model.policy = drawing
    for seed in (0, 0, 1):
        agent = model.agent(seed=seed, explore=True)
        actions.append([agent.act(np.zeros(3)).tolist() for _ in range(2)])
    assert actions[0] == actions[1] != actions[2]
    assert actions[0][0] != actions[0][1]
    assert torch.equal(torch.rand(2, generator=model.generator()), other[0])


class RandomModel(RandomPolicy):
    """A policy that draws from its model's own generator."""

    def __init__(self, model):
        super().__init__(model.io_contract().action_spec)
        self.model = model

    def __call__(self, obs, carry, *, is_first, explore):
        return torch.rand(len(is_first), 2, generator=self.model.generator()), carry


def test_it_acts_in_eval_mode_and_explores_when_told(actor):
    model = actor(obs_shape=(3,), action_dim=2).train()
    agent = model.agent()
    agent.act(np.zeros(3))
    agent.act(np.zeros(3), explore=True)
    assert model.training
    assert [(one["training"], one["explore"]) for one in agent.policy.seen] == [(False, False), (False, True)]


# --- what does not fit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "options", "message"),
    [
        ((Box(-1, 1, (4,)), Box(-1, 1, (2,))), {}, "observes obs float32.3,., the environment shows obs float32.4,."),
        ((PLACE, Discrete(2)), {}, "takes action: 2 discrete, the model was made for action: 2 continuous"),
        (object(), {}, "env is a object, expected an environment, its id, a factory, or its two spaces"),
        ("CartPool-v1", {}, "Did you mean 'CartPole-v1'"),
        (None, {"seed": -1}, "seed is -1"),
        (None, {"image_size": 0}, "image_size is 0"),
        (None, {"frame_stack": 0}, "frame_stack"),
        (None, {"explore": "no"}, "explore is 'no'"),
        (None, {"policy": "cem"}, "policy is a str"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_agent_is_made(actor, env, options, message):
    with pytest.raises(ConfigurationError, match=message):
        actor(obs_shape=(3,), action_dim=2).agent(env, **options)


def test_pictures_of_another_size_point_to_the_options(actor):
    with pytest.raises(ConfigurationError, match="may need image_size=, render_size= or frame_stack="):
        actor(obs_shape=(3, 8, 8), action_dim=2).agent((Box(0, 255, (9, 9, 3), np.uint8), Box(-1, 1, (2,))))


def test_a_model_without_a_policy_takes_one(actor):
    model = actor(obs_shape=(3,), action_dim=2)
    model.policy = lambda **_: type(model).__mro__[1].policy(model)
    with pytest.raises(CapabilityError, match="give one, such as policy="):
        model.agent()
    agent = model.agent(policy=RandomPolicy(model.io_contract().action_spec))
    assert agent.act(np.zeros(3)).shape == (2,)


def test_an_environment_is_taken_as_an_object_an_id_or_a_factory(actor):
    import gymnasium

    made = []

    def factory():
        made.append(gymnasium.make("CartPole-v1"))
        return made[-1]

    model = actor(obs_shape=(4,), action_spec={"kind": "discrete", "dim": 2})
    env = gymnasium.make("CartPole-v1")
    vector = gymnasium.make_vec("CartPole-v1", num_envs=2)
    for given in (env, "CartPole-v1", factory, vector):
        agent = model.agent(given)
        obs, _ = env.reset(seed=0)
        for _ in range(3):
            obs, *_ = env.step(agent.act(obs))
    assert len(made) == 1
    agent.reset()
    vector.step(agent.act(vector.reset(seed=0)[0]))
    vector.close()
